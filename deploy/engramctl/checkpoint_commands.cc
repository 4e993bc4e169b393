// digest and token-map: what derives from a checkpoint's files.
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "proto/sha256.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"
#include "storage/table_digest.h"
#include "storage/tokenizer.h"

namespace engram {
namespace {

absl::Status Digest(const std::string& directory, const std::string& out,
                    const std::string& expected) {
  std::optional<Sha256> wanted;
  if (!expected.empty()) {
    ASSIGN_OR_RETURN(wanted, Sha256FromHex(expected));
  }
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(const Sidecar sidecar, ComputeSidecar(checkpoint, 0, PrintLog));
  if (wanted.has_value() && sidecar.digest != *wanted) {
    return absl::FailedPreconditionError(absl::StrCat("the tables of ", directory,
                                                      " have the digest ", ToHex(sidecar.digest),
                                                      ", not ", expected));
  }
  RETURN_IF_ERROR(WriteSidecar(out.empty() ? checkpoint.sidecar_path() : out, sidecar));
  PrintJson({{"digest", ToHex(sidecar.digest)}});
  return absl::OkStatus();
}

absl::Status WriteTokenMap(const std::string& tokenizer, const std::string& out) {
  ASSIGN_OR_RETURN(const TokenMap map, BuildTokenMap(tokenizer));
  RETURN_IF_ERROR(WriteFileAtomically(out, map.Serialize()));
  PrintJson({{"tokens", map.tokens()}, {"compressed", map.compressed_count()}});
  return absl::OkStatus();
}

}  // namespace

void AddDigest(CLI::App& app, Command& run) {
  auto directory = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  auto expected = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("digest", "Reads the tables once and writes the sidecar beside them");
  command->add_option("DIR", *directory, "Checkpoint directory")->required();
  command->add_option("--out", *out, "Sidecar file (default: DIR/engram.sidecar)");
  command->add_option("--expect-digest", *expected,
                      "Fail, and write nothing, for any table but this (64 hex digits)");
  command->callback([=, &run] { run = [=] { return Digest(*directory, *out, *expected); }; });
}

void AddTokenMap(CLI::App& app, Command& run) {
  auto tokenizer = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("token-map", "Writes a tokenizer's token map");
  command->add_option("--tokenizer", *tokenizer, "tokenizer.json")->required();
  command->add_option("--out", *out, "File of little-endian u32, one per token id")->required();
  command->callback([=, &run] { run = [=] { return WriteTokenMap(*tokenizer, *out); }; });
}

}  // namespace engram
