// Values to the end of a file's bytes, and off their front. Files of ours are little-endian, as the
// machines are that this is built for.
#ifndef ENGRAM_PROTO_BASE_BYTES_H_
#define ENGRAM_PROTO_BASE_BYTES_H_

#include <bit>
#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/string_view.h"

namespace engram {

static_assert(std::endian::native == std::endian::little);

template <typename T>
void AppendBytes(std::string& out, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
void AppendAllBytes(std::string& out, const std::vector<T>& values) {
  if (!values.empty()) {
    out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
}

// Borrows the bytes, which may end too soon: then what is taken says false, and takes nothing.
class ByteCursor {
 public:
  explicit ByteCursor(absl::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  bool Take(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (bytes_.size() < sizeof(T)) return false;
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_.remove_prefix(sizeof(T));
    return true;
  }
  template <typename T>
  bool TakeAll(size_t count, std::vector<T>& values) {
    if (bytes_.size() / sizeof(T) < count) return false;
    values.resize(count);
    if (count > 0) std::memcpy(values.data(), bytes_.data(), count * sizeof(T));
    bytes_.remove_prefix(count * sizeof(T));
    return true;
  }
  absl::string_view rest() const { return bytes_; }

 private:
  absl::string_view bytes_;
};

}  // namespace engram

#endif  // ENGRAM_PROTO_BASE_BYTES_H_
