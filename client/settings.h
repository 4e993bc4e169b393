// The client's settings as text: one JSON object, or ENGRAM_* environment variables. Both have the
// same fields, which are those of ClientOptions with a unit where there is one.
#ifndef ENGRAM_CLIENT_SETTINGS_H_
#define ENGRAM_CLIENT_SETTINGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/options.h"

namespace engram {

struct ClientSettings {
  ClientOptions client;
  // Of lookups that do not say.
  absl::Duration lookup_timeout = LookupOptions().timeout;
  MissingRows missing_rows = MissingRows::kFail;

  // InvalidArgument naming the option.
  absl::Status Validate() const;
};

// Names of all fields, as in JSON.
std::vector<std::string> SettingNames();

// One JSON object. Lists are arrays, or strings with commas. `source` names it in messages.
// InvalidArgument naming the key: unknown, of another type, out of range; or as Validate.
absl::StatusOr<ClientSettings> SettingsFromJson(absl::string_view json, absl::string_view source);

// `environment`: "NAME=value" strings up to a null, as in environ. Variables are ENGRAM_ and the
// field's name in upper case; ENGRAM_CONFIG holds a JSON object of them, which variables of their
// own go before. Names that do not begin with ENGRAM_ are not looked at.
// InvalidArgument naming the variable: any other ENGRAM_ one, or as above.
absl::StatusOr<ClientSettings> SettingsFromEnvironment(const char* const* environment);

}  // namespace engram

#endif  // ENGRAM_CLIENT_SETTINGS_H_
