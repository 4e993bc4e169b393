#include "tests/bench/peer_tables.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "proto/base/file.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"
#include "storage/checkpoint.h"
#include "storage/sidecar.h"
#include "storage/synth.h"
#include "storage/table_digest.h"
#include "tests/bench/peers/peer.h"

namespace engram::bench {
namespace {

// The directories that there are.
struct Scratch {
  Mutex mutex;
  std::set<std::string> paths ABSL_GUARDED_BY(mutex);
};

Scratch& AllScratch() {
  static auto* const scratch = new Scratch;
  return *scratch;
}

}  // namespace

void RemoveScratchOnSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] {
    int signal = 0;
    sigwait(&signals, &signal);
    MutexLock lock(&AllScratch().mutex);
    std::error_code error;
    for (const std::string& path : AllScratch().paths) std::filesystem::remove_all(path, error);
    _exit(128 + signal);  // The processes that it has started end with it.
  }).detach();
}

absl::StatusOr<ScratchDirectory> ScratchDirectory::Create(const std::string& parent) {
  std::error_code error;
  const std::string where =
      parent.empty() ? std::filesystem::temp_directory_path(error).string() : parent;
  std::string path = absl::StrCat(where, "/engram-bench.XXXXXX");
  if (mkdtemp(path.data()) == nullptr) {
    return SystemError(errno, absl::StrCat("cannot make a directory in ", where));
  }
  MutexLock lock(&AllScratch().mutex);
  AllScratch().paths.insert(path);
  return ScratchDirectory(std::move(path));
}

ScratchDirectory::~ScratchDirectory() {
  if (path_.empty()) return;
  MutexLock lock(&AllScratch().mutex);
  AllScratch().paths.erase(path_);
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

absl::Status MakePeerTable(const std::string& directory, uint64_t rows,
                           const std::string& tokenizer) {
  SynthOptions synth;
  synth.tokenizer = tokenizer;
  synth.out = directory;
  synth.seed = kPeerSeed;
  synth.bucket_floor = (rows + 23) / 24;  // V4.1-Flash has 24 columns a layer
  RETURN_IF_ERROR(Synthesize(synth));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(directory));
  ASSIGN_OR_RETURN(const Sidecar sidecar, ComputeSidecar(checkpoint, 0, nullptr));
  RETURN_IF_ERROR(WriteSidecar(checkpoint.sidecar_path(), sidecar));
  nlohmann::json measured = nlohmann::json::array();
  nlohmann::json others = nlohmann::json::array();
  for (const LayerGeometry& layer : checkpoint.geometry().layers()) {
    (layer.layer_id == kPeerLayer ? measured : others)
        .push_back({{"layer", layer.layer_id}, {"begin", 0}, {"end", layer.rows}});
  }
  const nlohmann::json map = {{"shards",
                               {{{"name", kPeerShard}, {"ranges", std::move(measured)}},
                                {{"name", "others"}, {"ranges", std::move(others)}}}}};
  return WriteFileAtomically(absl::StrCat(directory, ".map"), map.dump());
}

}  // namespace engram::bench
