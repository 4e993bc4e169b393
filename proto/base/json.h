// Reading JSON that others wrote: every complaint names the document and the field.
#ifndef ENGRAM_PROTO_BASE_JSON_H_
#define ENGRAM_PROTO_BASE_JSON_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace engram {

// Parses `text` as one JSON object. `source` names it in messages ("DIR/config.json").
// InvalidArgument: not JSON (with the byte offset), not an object, nested deeper than 64 levels, or
// one object holds a key twice (a reader that keeps either would be guessing).
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text, absl::string_view source);

// Reads a whole file of at most `max_bytes` and parses it as ParseJsonObject does.
// NotFound / PermissionDenied / ... as the system says; InvalidArgument also when too large.
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path, uint64_t max_bytes);

// One object of a document, with what is needed to complain about its fields.
class JsonFields {
 public:
  // Borrows `object` (which must be a JSON object) for its life. `source` names document and
  // object, e.g. "DIR/config.json: text_config".
  JsonFields(const nlohmann::json& object, std::string source)
      : object_(object), source_(std::move(source)) {}

  bool Has(absl::string_view field) const;

  // An integer in [min, max]. InvalidArgument: missing, not an integer, or outside.
  absl::StatusOr<uint64_t> Uint(absl::string_view field, uint64_t min, uint64_t max) const;
  // The same for every element of an array of 1 to `max_count` integers.
  absl::StatusOr<std::vector<uint64_t>> UintList(absl::string_view field, uint64_t min,
                                                 uint64_t max, size_t max_count) const;
  // Either form: an integer stands for a list of one.
  absl::StatusOr<std::vector<uint64_t>> UintOrList(absl::string_view field, uint64_t min,
                                                   uint64_t max, size_t max_count) const;
  absl::StatusOr<std::string> String(absl::string_view field) const;

  // InvalidArgument "<source>: field `<field>` <what>".
  absl::Status Complain(absl::string_view field, absl::string_view what) const;

  const nlohmann::json& object() const { return object_; }
  const std::string& source() const { return source_; }

 private:
  // The field's value, or InvalidArgument when it is missing.
  absl::StatusOr<const nlohmann::json*> Find(absl::string_view field) const;
  absl::StatusOr<uint64_t> ToUint(const nlohmann::json& value, absl::string_view field,
                                  uint64_t min, uint64_t max) const;

  const nlohmann::json& object_;
  const std::string source_;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_JSON_H_
