// model.safetensors.index.json of a checkpoint that is in order otherwise.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "storage/checkpoint.h"
#include "storage/synth.h"
#include "tests/fuzz/memory_file.h"

namespace {

// One directory a process, gone at its end.
class Directory {
 public:
  Directory()
      : path_(std::filesystem::temp_directory_path() /
              ("engram_fuzz." + std::to_string(getpid()))) {
    std::filesystem::remove_all(path_);
    engram::SynthOptions options;
    options.out = path_;
    options.bucket_floor = 2;
    engram::Require(engram::Synthesize(options).ok());
  }
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string path() const { return path_; }

 private:
  const std::filesystem::path path_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Directory directory;
  std::ofstream(directory.path() + "/model.safetensors.index.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto checkpoint = engram::Checkpoint::Open(directory.path());
  engram::Require(!checkpoint.ok() || checkpoint->layers().size() == 2);
  return 0;
}
