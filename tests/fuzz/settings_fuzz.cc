// The client's settings as JSON and as environment variables.
#include "client/settings.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace engram;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<ClientSettings> settings = SettingsFromJson(text, "fuzz");
  if (settings.ok()) {
    Require(settings->Validate().ok());
    Require(!settings->client.servers.empty());
  } else {
    Require(settings.status().code() == absl::StatusCode::kInvalidArgument);
  }
  // Lines are variables; a zero byte ends one early, as it would for real.
  std::vector<std::string> lines(1);
  for (const char byte : text) {
    if (byte == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += byte;
    }
  }
  std::vector<const char*> environment;
  for (const std::string& line : lines) environment.push_back(line.c_str());
  environment.push_back(nullptr);
  const absl::StatusOr<ClientSettings> variables = SettingsFromEnvironment(environment.data());
  Require(!variables.ok() || variables->Validate().ok());
  return 0;
}
