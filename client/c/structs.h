// Structs of the C ABI that may grow: each begins with its size, which says how many of the fields
// its maker knew.
#ifndef ENGRAM_CLIENT_C_STRUCTS_H_
#define ENGRAM_CLIENT_C_STRUCTS_H_

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/status/status.h"
#include "client/c/engram_client.h"
#include "proto/base/status_macros.h"

namespace engram {

// Of what ABI 1.0 had: a struct that is smaller was not made for any version. Never change.
template <typename T>
inline constexpr size_t kFirstSize = 0;
template <>
inline constexpr size_t kFirstSize<engram_client_options> = 184;
template <>
inline constexpr size_t kFirstSize<engram_table_info> = 112;
template <>
inline constexpr size_t kFirstSize<engram_layer_info> = 56;
template <>
inline constexpr size_t kFirstSize<engram_lookup_options> = 56;
template <>
inline constexpr size_t kFirstSize<engram_step_ids> = 56;
template <>
inline constexpr size_t kFirstSize<engram_slot_options> = 80;
template <>
inline constexpr size_t kFirstSize<engram_slot_layer_info> = 48;
template <>
inline constexpr size_t kFirstSize<engram_prefetch_options> = 48;

// InvalidArgument: `given` is null, or its size is none.
absl::Status CheckSize(const void* given, size_t size, size_t first_size, const char* name);
// InvalidArgument: bytes [known, size) are not all zero.
absl::Status CheckTail(const void* given, size_t size, size_t known, const char* name);

// The fields of `given` over `out`, which holds what fields mean that its maker did not know.
template <typename T>
absl::Status ReadStruct(const T* given, const char* name, T& out) {
  static_assert(kFirstSize<T> > 0 && sizeof(T) >= kFirstSize<T>);
  const size_t size = given == nullptr ? 0 : given->struct_size;
  RETURN_IF_ERROR(CheckSize(given, size, kFirstSize<T>, name));
  RETURN_IF_ERROR(CheckTail(given, size, sizeof(T), name));
  std::memcpy(&out, given, std::min(size, sizeof(T)));
  return absl::OkStatus();
}

// `value` to as much of `*out` as its maker knows; zeros where that is more than is known here.
template <typename T>
absl::Status WriteStruct(const T& value, const char* name, T* out) {
  static_assert(kFirstSize<T> > 0 && sizeof(T) >= kFirstSize<T>);
  const size_t size = out == nullptr ? 0 : out->struct_size;
  RETURN_IF_ERROR(CheckSize(out, size, kFirstSize<T>, name));
  std::memset(static_cast<void*>(out), 0, size);
  std::memcpy(static_cast<void*>(out), &value, std::min(size, sizeof(T)));
  out->struct_size = size;
  return absl::OkStatus();
}

}  // namespace engram

#endif  // ENGRAM_CLIENT_C_STRUCTS_H_
