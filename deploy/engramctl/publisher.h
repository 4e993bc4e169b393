// Brings a delta to the servers of a table.
#ifndef ENGRAM_DEPLOY_ENGRAMCTL_PUBLISHER_H_
#define ENGRAM_DEPLOY_ENGRAMCTL_PUBLISHER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "storage/delta_file.h"

namespace engram {

// Sends each server the rows of its ranges. Activates nothing.
class Publisher {
 public:
  // `servers`: as AskServers gave them. `max_mb_s`: 10^6 bytes a second that any of them is sent at
  // most, so that what it does with them leaves its readers alone; 0: no bound.
  Publisher(std::string path, const std::vector<ServerStatus>& servers, double max_mb_s = 0,
            Credentials credentials = {})
      : path_(std::move(path)),
        servers_(servers),
        max_mb_s_(max_mb_s),
        credentials_(std::move(credentials)) {}

  // Returns when every server holds the delta's target, durably; those that do already are passed
  // by. Nothing is sent before the whole delta was read and found sound, every server was found to
  // be there and to hold the base, and every row to have a server. The first failure ends it,
  // naming the server; run again it goes on with those that are left.
  absl::Status Run();
  const Sha256& target() const { return target_; }

 private:
  // A server that is to get its part.
  struct Part {
    const ServerStatus* server;
    std::vector<RowRange> ranges;
    DeltaHeader header;   // of the part
    std::string records;  // that wait to be sent
    uint64_t sent = 0;    // rows
    absl::Time next;      // before which no more is sent
  };

  absl::Status ChooseServers(const DeltaHeader& header);
  absl::Status Count(DeltaReader& delta);
  absl::Status SendAll(DeltaReader& delta);
  absl::Status Send(Part& part, bool last);
  template <typename Visit>
  absl::Status ForEachRow(DeltaReader& delta, Visit visit);

  const std::string path_;
  const std::vector<ServerStatus>& servers_;
  const double max_mb_s_;
  const Credentials credentials_;
  Sha256 target_{};
  std::vector<Part> parts_;
};

// Null: the server does not hold it.
const GenerationStatus* FindGeneration(const ServerStatus& server, const Sha256& digest);

}  // namespace engram

#endif  // ENGRAM_DEPLOY_ENGRAMCTL_PUBLISHER_H_
