#include "tests/bench/engramd_process.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/status_macros.h"

namespace engram::bench {
namespace {

constexpr absl::Duration kLoadTimeout = absl::Minutes(2);

// The value of " name=" in the line that engramd prints.
absl::StatusOr<std::string> FieldOf(absl::string_view line, absl::string_view name) {
  for (absl::string_view word : absl::StrSplit(line, ' ')) {
    if (absl::ConsumePrefix(&word, name) && absl::ConsumePrefix(&word, "=")) {
      return std::string(word);
    }
  }
  return absl::InternalError(absl::StrCat("engramd said `", line, "`, without ", name));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EngramdProcess>> EngramdProcess::Start(
    std::vector<std::string> flags, int core) {
  ASSIGN_OR_RETURN(const std::string directory, OwnDirectory());
  if (std::find(flags.begin(), flags.end(), "--listen") == flags.end()) {
    flags.insert(flags.end(), {"--listen", "127.0.0.1:0"});
  }
  flags.push_back("--insecure");  // emulated links have addresses of their own
  flags.insert(flags.begin(), absl::StrCat(directory, "/engramd"));
  ASSIGN_OR_RETURN(std::unique_ptr<ChildProcess> process, ChildProcess::Start(flags, core));
  ASSIGN_OR_RETURN(const std::string line, process->ReadLine(kLoadTimeout));
  ASSIGN_OR_RETURN(std::string address, FieldOf(line, "listen"));
  return std::unique_ptr<EngramdProcess>(
      new EngramdProcess(std::move(process), std::move(address)));
}

}  // namespace engram::bench
