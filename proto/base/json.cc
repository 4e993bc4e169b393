#include "proto/base/json.h"

#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;

// Reads the document's events for what makes its meaning doubtful. A pass of its own: nlohmann's
// callback parser, which could look while it builds, is quadratic in a list's objects.
class StrictCheck final : public json::json_sax_t {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_array(size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }
  bool start_object(size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    problem_ = absl::StrCat(": key `", key, "` appears twice in one object");
    return false;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    problem_ = absl::StrCat(" is not valid JSON: ", error.what());
    return false;
  }
  const std::string& problem() const { return problem_; }

 private:
  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() > kMaxDepth) {
      problem_ = absl::StrCat(": nested deeper than ", kMaxDepth, " levels");
    }
    return problem_.empty();
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::unordered_set<std::string>> keys_;  // of every open object (lists have none)
  std::string problem_;
};

}  // namespace

absl::StatusOr<json> ParseJsonObject(absl::string_view text, absl::string_view source) {
  StrictCheck strict;
  if (!json::sax_parse(text.begin(), text.end(), &strict)) {
    return absl::InvalidArgumentError(absl::StrCat(source, strict.problem()));
  }
  json document = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, " holds a JSON ", document.type_name(), ", not an object"));
  }
  return document;
}

absl::StatusOr<json> ReadJsonFile(const std::string& path, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, max_bytes));
  return ParseJsonObject(text, path);
}

bool JsonFields::Has(absl::string_view field) const { return object_.contains(std::string(field)); }

absl::Status JsonFields::Complain(absl::string_view field, absl::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(source_, ": field `", field, "` ", what));
}

absl::StatusOr<const json*> JsonFields::Find(absl::string_view field) const {
  const auto it = object_.find(std::string(field));
  if (it == object_.end()) return Complain(field, "is missing");
  return &*it;
}

absl::StatusOr<uint64_t> JsonFields::ToUint(const json& value, absl::string_view field,
                                            uint64_t min, uint64_t max) const {
  // nlohmann keeps an integer beyond 64 bits as a float: not an integer to us either.
  if (!value.is_number_integer()) {
    return Complain(field, absl::StrCat("is ", value.dump().substr(0, 40),
                                        ", expected an integer in [", min, ", ", max, "]"));
  }
  const bool negative = !value.is_number_unsigned() && value.get<int64_t>() < 0;
  if (negative || value.get<uint64_t>() < min || value.get<uint64_t>() > max) {
    return Complain(field, absl::StrCat("is ", value.dump(), ", expected an integer in [", min,
                                        ", ", max, "]"));
  }
  return value.get<uint64_t>();
}

absl::StatusOr<uint64_t> JsonFields::Uint(absl::string_view field, uint64_t min,
                                          uint64_t max) const {
  ASSIGN_OR_RETURN(const json* value, Find(field));
  return ToUint(*value, field, min, max);
}

absl::StatusOr<std::vector<uint64_t>> JsonFields::UintList(absl::string_view field, uint64_t min,
                                                           uint64_t max, size_t max_count) const {
  ASSIGN_OR_RETURN(const json* value, Find(field));
  if (!value->is_array()) return Complain(field, "is not a list of integers");
  if (value->empty() || value->size() > max_count) {
    return Complain(field,
                    absl::StrCat("has ", value->size(), " elements, expected 1 to ", max_count));
  }
  std::vector<uint64_t> list;
  for (const json& element : *value) {
    ASSIGN_OR_RETURN(const uint64_t number, ToUint(element, field, min, max));
    list.push_back(number);
  }
  return list;
}

absl::StatusOr<std::vector<uint64_t>> JsonFields::UintOrList(absl::string_view field, uint64_t min,
                                                             uint64_t max, size_t max_count) const {
  ASSIGN_OR_RETURN(const json* value, Find(field));
  if (value->is_array()) return UintList(field, min, max, max_count);
  ASSIGN_OR_RETURN(const uint64_t number, ToUint(*value, field, min, max));
  return std::vector<uint64_t>{number};
}

absl::StatusOr<std::string> JsonFields::String(absl::string_view field) const {
  ASSIGN_OR_RETURN(const json* value, Find(field));
  if (!value->is_string()) return Complain(field, "is not a string");
  return value->get<std::string>();
}

}  // namespace engram
