#include "client/settings.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr absl::string_view kPrefix = "ENGRAM_";
constexpr absl::string_view kConfig = "ENGRAM_CONFIG";
// A year: what is meant to be longer is a mistake.
constexpr uint64_t kMaxMicros = uint64_t{365} * 24 * 3600 * 1'000'000;

// What is wrong with a value; its field is named by whoever knows where it came from.
absl::Status Wrong(absl::string_view what) { return absl::InvalidArgumentError(what); }

absl::Status Read(const json& value, uint64_t max, uint64_t& out) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > max) {
    return Wrong(absl::StrCat("is not a whole number from 0 to ", max));
  }
  out = value.get<uint64_t>();
  return absl::OkStatus();
}

absl::Status Read(const json& value, uint64_t& out) {
  return Read(value, std::numeric_limits<uint64_t>::max(), out);
}

absl::Status Read(const json& value, uint32_t& out) {
  uint64_t wide = 0;
  RETURN_IF_ERROR(Read(value, std::numeric_limits<uint32_t>::max(), wide));
  out = static_cast<uint32_t>(wide);
  return absl::OkStatus();
}

absl::Status Read(const json& value, absl::Duration& out) {
  uint64_t micros = 0;
  RETURN_IF_ERROR(Read(value, kMaxMicros, micros));
  out = absl::Microseconds(static_cast<int64_t>(micros));
  return absl::OkStatus();
}

absl::Status Read(const json& value, double& out) {
  if (!value.is_number()) return Wrong("is not a number");
  out = value.get<double>();
  return absl::OkStatus();
}

absl::Status Read(const json& value, bool& out) {
  if (!value.is_boolean()) return Wrong("is not true or false");
  out = value.get<bool>();
  return absl::OkStatus();
}

absl::Status Read(const json& value, std::string& out) {
  if (!value.is_string()) return Wrong("is not a string");
  out = value.get<std::string>();
  return absl::OkStatus();
}

absl::Status Read(const json& value, std::vector<std::string>& out) {
  if (value.is_string()) {
    out = absl::StrSplit(value.get<std::string>(), ',');
    return absl::OkStatus();
  }
  out.clear();
  if (!value.is_array()) return Wrong("is not a list of strings");
  for (const json& element : value) RETURN_IF_ERROR(Read(element, out.emplace_back()));
  return absl::OkStatus();
}

absl::Status Read(const json& value, std::vector<int>& out) {
  json list = value;
  if (value.is_string()) {
    // "0,1" as [0,1].
    list = json::parse(absl::StrCat("[", value.get<std::string>(), "]"), nullptr, false);
  }
  if (!list.is_array()) return Wrong("is not a list of whole numbers");
  out.clear();
  for (const json& element : list) {
    uint64_t number = 0;
    RETURN_IF_ERROR(Read(element, std::numeric_limits<int>::max(), number));
    out.push_back(static_cast<int>(number));
  }
  return absl::OkStatus();
}

absl::Status Read(const json& value, ColumnRange& out) {
  std::vector<int> ends;
  RETURN_IF_ERROR(Read(value, ends));
  if (ends.size() != 2) return Wrong("is not two numbers: begin, end");
  out = {static_cast<uint32_t>(ends[0]), static_cast<uint32_t>(ends[1])};
  return absl::OkStatus();
}

absl::Status Read(const json& value, std::optional<Sha256>& out) {
  std::string hex;
  RETURN_IF_ERROR(Read(value, hex));
  ASSIGN_OR_RETURN(out, Sha256FromHex(hex));
  return absl::OkStatus();
}

absl::Status Read(const json& value, MissingRows& out) {
  if (value != "fail" && value != "zeros") return Wrong("is not \"fail\" or \"zeros\"");
  out = value == "zeros" ? MissingRows::kZeros : MissingRows::kFail;
  return absl::OkStatus();
}

struct Field {
  absl::string_view name;
  absl::Status (*read)(const json& value, ClientSettings& settings);
  bool is_text;  // in a variable its text stands as it is; else it is JSON
};

template <auto Member>
absl::Status ReadClient(const json& value, ClientSettings& settings) {
  return Read(value, settings.client.*Member);
}
template <auto Member>
absl::Status ReadCredentials(const json& value, ClientSettings& settings) {
  return Read(value, settings.client.credentials.*Member);
}
template <auto Member>
absl::Status ReadOwn(const json& value, ClientSettings& settings) {
  return Read(value, settings.*Member);
}

constexpr Field kFields[] = {
    {"servers", ReadClient<&ClientOptions::servers>, true},
    {"expect_digest", ReadClient<&ClientOptions::expect_digest>, true},
    {"follow_generations", ReadClient<&ClientOptions::follow_generations>, false},
    {"follow_interval_us", ReadClient<&ClientOptions::follow_interval>, false},
    {"allow_partial", ReadClient<&ClientOptions::allow_partial>, false},
    {"missing_rows", ReadOwn<&ClientSettings::missing_rows>, true},
    {"connect_timeout_us", ReadClient<&ClientOptions::connect_timeout>, false},
    {"lookup_timeout_us", ReadOwn<&ClientSettings::lookup_timeout>, false},
    {"resolve_interval_us", ReadClient<&ClientOptions::resolve_interval>, false},
    {"verify_share", ReadClient<&ClientOptions::verify_share>, false},
    {"credit_bytes", ReadClient<&ClientOptions::credit_bytes>, false},
    {"rows_per_request", ReadClient<&ClientOptions::rows_per_request>, false},
    {"io_threads", ReadClient<&ClientOptions::io_threads>, false},
    {"max_prefetch_bytes", ReadClient<&ClientOptions::max_prefetch_bytes>, false},
    {"cache_bytes", ReadClient<&ClientOptions::cache_bytes>, false},
    {"cache_columns", ReadClient<&ClientOptions::cache_columns>, true},
    {"hot_ngrams", ReadClient<&ClientOptions::hot_ngrams>, true},
    {"dedup", ReadClient<&ClientOptions::dedup>, false},
    {"spin_us", ReadClient<&ClientOptions::spin>, false},
    {"cpus", ReadClient<&ClientOptions::cpus>, true},
    {"hedge_share", ReadClient<&ClientOptions::hedge_share>, false},
    {"hedge_after_least_us", ReadClient<&ClientOptions::hedge_after_least>, false},
    {"tls_ca", ReadCredentials<&Credentials::ca>, true},
    {"tls_certificate", ReadCredentials<&Credentials::certificate>, true},
    {"tls_key", ReadCredentials<&Credentials::key>, true},
    {"tls_server_name", ReadCredentials<&Credentials::server_name>, true},
    {"token_file", ReadCredentials<&Credentials::token>, true},
};

const Field* FindField(absl::string_view name) {
  const auto* const field =
      std::find_if(std::begin(kFields), std::end(kFields),
                   [name](const Field& candidate) { return candidate.name == name; });
  return field == std::end(kFields) ? nullptr : field;
}

absl::Status ReadField(const Field& field, const json& value, absl::string_view where,
                       ClientSettings& settings) {
  const absl::Status status = field.read(value, settings);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(where, " ", status.message()));
}

absl::Status ReadJson(absl::string_view text, absl::string_view source, ClientSettings& settings) {
  ASSIGN_OR_RETURN(const json document, ParseJsonObject(text, source));
  for (const auto& [key, value] : document.items()) {
    const std::string where = absl::StrCat(source, ": field `", key, "`");
    const Field* const field = FindField(key);
    if (field == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(where, " is not a setting; those are ",
                                                     absl::StrJoin(SettingNames(), ", ")));
    }
    RETURN_IF_ERROR(ReadField(*field, value, where, settings));
  }
  return absl::OkStatus();
}

absl::Status ReadVariable(absl::string_view name, absl::string_view text,
                          ClientSettings& settings) {
  const std::string key = absl::AsciiStrToLower(absl::StripPrefix(name, kPrefix));
  const Field* const field = FindField(key);
  // Variables are in capitals: Engram_servers is somebody else's.
  if (field == nullptr || name != absl::StrCat(kPrefix, absl::AsciiStrToUpper(key))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "environment variable ", name, " is not a setting; those are ", kConfig, " and ", kPrefix,
        " with ", absl::AsciiStrToUpper(absl::StrJoin(SettingNames(), ", "))));
  }
  const json value = field->is_text ? json(std::string(text))
                                    : json::parse(text.begin(), text.end(), nullptr, false);
  return ReadField(*field, value, absl::StrCat("environment variable ", name), settings);
}

}  // namespace

absl::Status ClientSettings::Validate() const {
  if (lookup_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("client option `lookup_timeout` is not positive");
  }
  return client.Validate();
}

std::vector<std::string> SettingNames() {
  std::vector<std::string> names;
  for (const Field& field : kFields) names.emplace_back(field.name);
  return names;
}

absl::StatusOr<ClientSettings> SettingsFromJson(absl::string_view json, absl::string_view source) {
  ClientSettings settings;
  RETURN_IF_ERROR(ReadJson(json, source, settings));
  RETURN_IF_ERROR(settings.Validate());
  return settings;
}

absl::StatusOr<ClientSettings> SettingsFromEnvironment(const char* const* environment) {
  ClientSettings settings;
  std::vector<std::pair<absl::string_view, absl::string_view>> variables;
  for (; *environment != nullptr; ++environment) {
    const absl::string_view entry = *environment;
    const size_t equals = entry.find('=');
    if (!absl::StartsWith(entry, kPrefix) || equals == absl::string_view::npos) continue;
    const absl::string_view name = entry.substr(0, equals), text = entry.substr(equals + 1);
    if (name == kConfig) {
      RETURN_IF_ERROR(ReadJson(text, kConfig, settings));
    } else {
      variables.emplace_back(name, text);
    }
  }
  for (const auto& [name, text] : variables) RETURN_IF_ERROR(ReadVariable(name, text, settings));
  RETURN_IF_ERROR(settings.Validate());
  return settings;
}

}  // namespace engram
