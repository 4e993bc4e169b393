#include "deploy/model/dense_tensors.h"

#include "absl/strings/str_cat.h"
#include "proto/base/file.h"
#include "proto/base/status_macros.h"
#include "storage/safetensors.h"

namespace engram::model {

absl::StatusOr<DenseTensors> DenseTensors::Read(const std::string& directory) {
  constexpr uint64_t kMostBytes = uint64_t{1} << 30;
  DenseTensors dense;
  dense.path_ = absl::StrCat(directory, "/model.safetensors");
  ASSIGN_OR_RETURN(const SafetensorsFile file, ReadSafetensorsHeader(dense.path_));
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(dense.path_, kMostBytes));
  for (const auto& [name, tensor] : file.tensors) {
    if (tensor.dtype != "BF16" && tensor.dtype != "F32") continue;
    if (tensor.file_offset > bytes.size() || tensor.bytes > bytes.size() - tensor.file_offset) {
      return absl::DataLossError(absl::StrCat(dense.path_, " has shrunk while it was read"));
    }
    const auto* const begin = reinterpret_cast<const uint8_t*>(bytes.data()) + tensor.file_offset;
    dense.tensors_[name] = {tensor.dtype, {begin, begin + tensor.bytes}};
  }
  return dense;
}

absl::StatusOr<Weights> DenseTensors::Get(const std::string& name, size_t rows,
                                          size_t columns) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, " has no tensor `", name, "` of BF16 or F32"));
  }
  const Weights weights{found->second.dtype == "F32" ? ValueType::kF32 : ValueType::kBf16,
                        found->second.bytes};
  const absl::Status fits = CheckWeights(name, weights, rows, columns);
  if (fits.ok()) return weights;
  return absl::InvalidArgumentError(absl::StrCat(path_, ": ", fits.message()));
}

}  // namespace engram::model
