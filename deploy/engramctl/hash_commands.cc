// hash: row ids of token sequences, from a file of vectors or from a checkpoint and a trace.
#include <memory>

#include "absl/strings/str_cat.h"
#include "deploy/engramctl/commands.h"
#include "deploy/engramctl/output.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"
#include "proto/hot_keys.h"
#include "proto/hot_ngrams.h"
#include "proto/row_ids.h"
#include "proto/successors.h"
#include "proto/token_trace.h"
#include "storage/checkpoint.h"

namespace engram {
namespace {

constexpr uint64_t kMaxVectorBytes = uint64_t{1} << 30;

struct Sequence {
  std::vector<uint32_t> compressed;
  std::vector<uint8_t> dead;  // empty: none
};

absl::StatusOr<uint32_t> Narrow(const JsonFields& fields, absl::string_view field, uint32_t min,
                                uint32_t max) {
  ASSIGN_OR_RETURN(const uint64_t value, fields.Uint(field, min, max));
  return static_cast<uint32_t>(value);
}

absl::StatusOr<Geometry> GeometryOfVectors(const JsonFields& fields) {
  GeometryParams params;
  ASSIGN_OR_RETURN(const auto layers, fields.UintList("layer_ids", 0, kMaxLayerId, kMaxLayers));
  params.layer_ids.assign(layers.begin(), layers.end());
  ASSIGN_OR_RETURN(params.max_ngram, Narrow(fields, "max_ngram_size", 2, kMaxNgram));
  ASSIGN_OR_RETURN(params.heads, Narrow(fields, "heads", 1, kMaxHeads));
  ASSIGN_OR_RETURN(params.bucket_floors,
                   fields.UintList("bucket_floor_per_order", 1, kMaxBucketFloor, kMaxNgram));
  ASSIGN_OR_RETURN(params.seed, fields.Uint("seed", 0, uint64_t{1} << 62));
  ASSIGN_OR_RETURN(params.compressed_vocab, Narrow(fields, "compressed_vocab_size", 1, kMaxVocab));
  return Geometry::Derive(params);
}

absl::StatusOr<Sequence> SequenceOfVectors(const nlohmann::json& entry, const std::string& source,
                                           uint32_t compressed_vocab) {
  if (!entry.is_object()) return absl::InvalidArgumentError(absl::StrCat(source, " is no object"));
  const JsonFields fields(entry, source);
  ASSIGN_OR_RETURN(const auto ids,
                   fields.UintList("compressed_ids", 0, compressed_vocab - 1, kMaxVectorBytes));
  Sequence sequence{{ids.begin(), ids.end()}, {}};
  if (!fields.Has("dead")) return sequence;
  const nlohmann::json& dead = entry["dead"];
  if (!dead.is_array() || dead.size() != ids.size()) {
    return fields.Complain("dead", "is not a list with a flag per compressed id");
  }
  for (const nlohmann::json& flag : dead) {
    if (!flag.is_boolean())
      return fields.Complain("dead", "holds something else than true or false");
    sequence.dead.push_back(flag.get<bool>());
  }
  return sequence;
}

Json RowsJson(const Geometry& geometry, const RowHasher& hasher, const Sequence& sequence) {
  Json rows = Json::object();
  const size_t columns = hasher.columns();
  for (size_t i = 0; i < geometry.layers().size(); ++i) {
    std::vector<int64_t> ids(sequence.compressed.size() * columns);
    hasher.HashChunk(i, sequence.compressed, sequence.dead, LookBack(), ids);
    Json positions = Json::array();
    for (auto it = ids.begin(); it != ids.end(); it += static_cast<ptrdiff_t>(columns)) {
      positions.push_back(std::vector<int64_t>(it, it + static_cast<ptrdiff_t>(columns)));
    }
    rows[absl::StrCat(geometry.layers()[i].layer_id)] = std::move(positions);
  }
  return {{"rows", std::move(rows)}};
}

absl::Status PrintHashes(const Geometry& geometry, uint32_t pad,
                         const std::vector<Sequence>& sequences) {
  ASSIGN_OR_RETURN(const RowHasher hasher, RowHasher::Create(geometry, pad));
  Json json = DerivedJson(geometry);
  json["sequences"] = Json::array();
  for (const Sequence& sequence : sequences) {
    json["sequences"].push_back(RowsJson(geometry, hasher, sequence));
  }
  PrintJson(json);
  return absl::OkStatus();
}

absl::Status HashVectors(const std::string& path) {
  ASSIGN_OR_RETURN(const nlohmann::json document, ReadJsonFile(path, kMaxVectorBytes));
  const JsonFields fields(document, path);
  ASSIGN_OR_RETURN(const Geometry geometry, GeometryOfVectors(fields));
  const uint32_t vocab = geometry.params().compressed_vocab;
  ASSIGN_OR_RETURN(const uint64_t pad, fields.Uint("compressed_pad_id", 0, vocab - 1));
  if (!fields.Has("sequences") || !document["sequences"].is_array()) {
    return fields.Complain("sequences", "is missing or not a list");
  }
  std::vector<Sequence> sequences;
  for (const nlohmann::json& entry : document["sequences"]) {
    ASSIGN_OR_RETURN(
        Sequence sequence,
        SequenceOfVectors(entry, absl::StrCat(path, ": sequence ", sequences.size()), vocab));
    sequences.push_back(std::move(sequence));
  }
  return PrintHashes(geometry, static_cast<uint32_t>(pad), sequences);
}

// A trace's sequences as compressed ids.
absl::StatusOr<TokenTrace> CompressTrace(const Checkpoint& checkpoint, const std::string& directory,
                                         const std::string& tokens) {
  if (!checkpoint.token_map().has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, " has no tokenizer.json: token ids cannot be compressed"));
  }
  ASSIGN_OR_RETURN(TokenTrace trace, ReadTokenTrace(tokens));
  for (size_t i = 0; i < trace.size(); ++i) {
    for (uint32_t& id : trace[i]) {
      absl::StatusOr<uint32_t> compressed = checkpoint.token_map()->Compress(id);
      if (!compressed.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat(tokens, ": sequence ", i, ": ", compressed.status().message()));
      }
      id = *compressed;
    }
  }
  return trace;
}

absl::Status HashTrace(const std::string& directory, const std::string& tokens) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(TokenTrace trace, CompressTrace(checkpoint, directory, tokens));
  std::vector<Sequence> sequences;
  for (std::vector<uint32_t>& ids : trace) sequences.push_back({std::move(ids), {}});
  ASSIGN_OR_RETURN(const uint32_t pad,
                   checkpoint.token_map()->Compress(checkpoint.geometry().params().pad_token));
  return PrintHashes(checkpoint.geometry(), pad, sequences);
}

// Of what clients have saved.
absl::Status MergeHot(const std::vector<std::string>& saved, size_t most, const std::string& out) {
  std::vector<HotKeys> parts;
  for (const std::string& path : saved) {
    ASSIGN_OR_RETURN(parts.emplace_back(), ReadHotKeys(path));
  }
  ASSIGN_OR_RETURN(const HotKeys merged, MergeHotKeys(parts, most));
  RETURN_IF_ERROR(WriteHotKeys(out, merged));
  PrintJson({{"ngrams", merged.keys.size()}, {"digest", ToHex(merged.digest)}, {"file", out}});
  return absl::OkStatus();
}

absl::Status WriteHot(const std::string& directory, const std::string& tokens, size_t most,
                      size_t window, const std::string& out) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(const TokenTrace trace, CompressTrace(checkpoint, directory, tokens));
  const HotNgrams hot{checkpoint.token_map()->sha256(),
                      CountNgrams(trace, checkpoint.geometry().params().max_ngram, most, window)};
  RETURN_IF_ERROR(WriteHotNgrams(out, hot));
  Json orders = Json::object();
  for (const HotNgrams::Ngram& ngram : hot.ngrams) {
    Json& count = orders[absl::StrCat(ngram.size)];
    count = count.is_null() ? 1 : count.get<uint64_t>() + 1;
  }
  PrintJson({{"ngrams", hot.ngrams.size()},
             {"by_order", std::move(orders)},
             {"token_map", ToHex(hot.token_map)},
             {"file", out}});
  return absl::OkStatus();
}

absl::Status WriteCounted(const std::string& directory, const std::string& tokens,
                          uint64_t max_bytes, const std::string& out) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(const TokenTrace trace, CompressTrace(checkpoint, directory, tokens));
  ASSIGN_OR_RETURN(const Successors counted,
                   CountSuccessors(trace, checkpoint.token_map()->sha256(), max_bytes));
  RETURN_IF_ERROR(WriteSuccessors(out, counted));
  PrintJson({{"contexts", counted.size()},
             {"by_tokens",
              {{"1", counted.contexts().singles.size()}, {"2", counted.contexts().last.size()}}},
             {"successors", counted.contexts().ids.size()},
             {"token_map", ToHex(counted.token_map())},
             {"file", out}});
  return absl::OkStatus();
}

}  // namespace

void AddSuccessors(CLI::App& app, Command& run) {
  struct Flags {
    std::string checkpoint, tokens, out;
    uint64_t max_bytes = 8'000'000;
  };
  const auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "successors", "Writes what follows what in a trace, for a client's guesses of next tokens");
  command->add_option("--checkpoint", flags->checkpoint, "Checkpoint directory, with a tokenizer")
      ->required();
  command->add_option("--tokens", flags->tokens, "Trace file of raw token ids")->required();
  command->add_option("--max-bytes", flags->max_bytes, "The file's size at most")
      ->capture_default_str();
  command->add_option("--out", flags->out, "File to write")->required();
  command->callback([=, &run] {
    run = [=] {
      return WriteCounted(flags->checkpoint, flags->tokens, flags->max_bytes, flags->out);
    };
  });
}

void AddHotNgrams(CLI::App& app, Command& run) {
  struct Flags {
    std::string checkpoint, tokens, out;
    std::vector<std::string> saved;
    size_t most = 500'000;
    size_t window = kHotNgramWindow;
  };
  const auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "hot-ngrams",
      "Writes the n-grams that are asked for most, in a trace or by clients, for a client's cache");
  CLI::Option* checkpoint = command->add_option("--checkpoint", flags->checkpoint,
                                                "Checkpoint directory, with a tokenizer");
  CLI::Option* tokens =
      command->add_option("--tokens", flags->tokens, "Trace file of raw token ids");
  checkpoint->needs(tokens);
  tokens->needs(checkpoint);
  command
      ->add_option("--saved", flags->saved,
                   "Files that clients have written (Client::SaveHotNgrams), with commas, instead")
      ->delimiter(',')
      ->excludes(tokens);
  command->add_option("--most", flags->most, "N-grams at most")->capture_default_str();
  command
      ->add_option("--window", flags->window,
                   "Tokens within which an n-gram counts once: those of a lookup")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--out", flags->out, "File to write")->required();
  command->callback([=, &run] {
    run = [=]() -> absl::Status {
      if (!flags->saved.empty()) return MergeHot(flags->saved, flags->most, flags->out);
      if (flags->tokens.empty()) {
        return absl::InvalidArgumentError("hot-ngrams needs --checkpoint and --tokens, or --saved");
      }
      return WriteHot(flags->checkpoint, flags->tokens, flags->most, flags->window, flags->out);
    };
  });
}

void AddHash(CLI::App& app, Command& run) {
  auto vectors = std::make_shared<std::string>();
  auto checkpoint = std::make_shared<std::string>();
  auto tokens = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("hash", "Prints the row ids of token sequences");
  CLI::Option* by_vectors =
      command->add_option("--vectors", *vectors, "JSON file: a geometry and compressed ids");
  CLI::Option* by_checkpoint =
      command->add_option("--checkpoint", *checkpoint, "Checkpoint directory");
  CLI::Option* by_tokens = command->add_option("--tokens", *tokens, "Trace file of raw token ids");
  by_checkpoint->needs(by_tokens)->excludes(by_vectors);
  by_tokens->needs(by_checkpoint);
  command->callback([=, &run] {
    run = [=]() -> absl::Status {
      if (!vectors->empty()) return HashVectors(*vectors);
      if (!checkpoint->empty()) return HashTrace(*checkpoint, *tokens);
      return absl::InvalidArgumentError("hash needs --vectors, or --checkpoint and --tokens");
    };
  });
}

}  // namespace engram
