// The tensors of a checkpoint that are not tables, in memory.
#ifndef ENGRAM_DEPLOY_MODEL_DENSE_TENSORS_H_
#define ENGRAM_DEPLOY_MODEL_DENSE_TENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/fusion/weights.h"

namespace engram::model {

class DenseTensors {
 public:
  // model.safetensors of the directory, without tables. NotFound, InvalidArgument: as
  // ReadSafetensorsHeader.
  static absl::StatusOr<DenseTensors> Read(const std::string& directory);

  // The tensor as [rows, columns] (its own shape may have more dimensions), borrowed from this.
  // InvalidArgument, naming file and tensor: there is none, or of another type or size.
  absl::StatusOr<Weights> Get(const std::string& name, size_t rows, size_t columns) const;

 private:
  struct Tensor {
    std::string dtype;
    std::vector<uint8_t> bytes;
  };
  std::string path_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace engram::model

#endif  // ENGRAM_DEPLOY_MODEL_DENSE_TENSORS_H_
