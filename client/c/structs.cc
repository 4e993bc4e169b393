#include "client/c/structs.h"

#include "absl/strings/str_cat.h"
#include "client/c/status.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

// Beyond it a size was never set: the bytes behind it are not to be looked at.
constexpr size_t kMaxSize = 4096;

}  // namespace

absl::Status CheckSize(const void* given, size_t size, size_t first_size, const char* name) {
  RETURN_IF_ERROR(CheckNotNull(given, name));
  if (size >= first_size && size <= kMaxSize) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("argument `", name, "`: struct_size is ", size,
                                                 ", its first version has ", first_size,
                                                 " bytes; start it with its _INIT"));
}

absl::Status CheckTail(const void* given, size_t size, size_t known, const char* name) {
  const auto* const bytes = static_cast<const unsigned char*>(given);
  for (size_t i = known; i < size; ++i) {
    if (bytes[i] != 0) {
      return absl::InvalidArgumentError(absl::StrCat("argument `", name, "` has a field at byte ",
                                                     i, " that this library (ABI version ",
                                                     ENGRAM_ABI_VERSION, ") does not know"));
    }
  }
  return absl::OkStatus();
}

}  // namespace engram
