#include "client/server_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/time/clock.h"
#include "proto/base/mutex.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Names and what they stand for, which a test changes.
class FakeNames {
 public:
  void Set(const std::string& name, std::vector<std::string> addresses) {
    MutexLock lock(&mutex_);
    names_[name] = std::move(addresses);
  }

  Resolution::Addresses LookUp(const std::string& address, bool numeric_only) {
    MutexLock lock(&mutex_);
    const auto it = names_.find(address);
    if (it == names_.end()) return ResolveAddress(address, true);
    if (numeric_only) return absl::NotFoundError(address);
    if (it->second.empty()) return absl::UnavailableError(address + " is not known");
    std::vector<SocketAddress> found;
    for (const std::string& each : it->second) found.push_back((*ResolveAddress(each, true))[0]);
    return found;
  }

 private:
  Mutex mutex_;
  std::map<std::string, std::vector<std::string>> names_ ABSL_GUARDED_BY(mutex_);
};

class ServerDirectoryTest : public testing::Test {
 protected:
  // Ticks at `now` until the lookups under way are done; whether anything changed.
  bool TickAll() {
    bool changed = false;
    const absl::Time limit = absl::Now() + absl::Seconds(10);
    do {
      changed = directory_.Tick(now_) || changed;
    } while (directory_.next_tick() == absl::InfiniteFuture() && waits_ && absl::Now() < limit);
    return changed;
  }
  std::vector<std::string> Labels() const {
    std::vector<std::string> labels;
    for (const Endpoint& endpoint : directory_.endpoints()) labels.push_back(endpoint.label);
    return labels;
  }

  FakeNames names_;
  Resolver resolver_{[this](const std::string& address, bool numeric_only) {
    return names_.LookUp(address, numeric_only);
  }};
  ServerDirectory directory_{&resolver_, absl::Seconds(2), [] {}};
  absl::Time now_ = absl::FromUnixSeconds(1000);
  bool waits_ = true;  // a name is looked up: next_tick is known when it is done
};

TEST_F(ServerDirectoryTest, NumbersStandForThemselvesAndAreNotLookedUpAgain) {
  waits_ = false;
  directory_.SetNames({"127.0.0.1:50051", "unix:/tmp/a", "[::1]:7"});
  EXPECT_TRUE(TickAll());
  EXPECT_THAT(Labels(), ElementsAre("127.0.0.1:50051", "unix:/tmp/a", "[::1]:7"));
  EXPECT_TRUE(directory_.all_tried());
  EXPECT_EQ(directory_.next_tick(), absl::InfiniteFuture());
}

TEST_F(ServerDirectoryTest, ANameIsAsManyServersAsItHasAddresses) {
  names_.Set("emb:50051", {"10.0.0.2:50051", "10.0.0.1:50051", "10.0.0.2:50051"});
  directory_.SetNames({"emb:50051"});
  EXPECT_TRUE(TickAll());
  EXPECT_THAT(Labels(), ElementsAre("emb:50051 (10.0.0.1:50051)", "emb:50051 (10.0.0.2:50051)"));
}

TEST_F(ServerDirectoryTest, ChangesAreFollowed) {
  names_.Set("emb:1", {"10.0.0.1:1"});
  directory_.SetNames({"emb:1"});
  EXPECT_TRUE(TickAll());
  EXPECT_THAT(Labels(), ElementsAre("emb:1"));
  EXPECT_EQ(directory_.next_tick(), now_ + absl::Seconds(2));
  names_.Set("emb:1", {"10.0.0.1:1", "10.0.0.2:1"});
  EXPECT_FALSE(directory_.Tick(now_ + absl::Seconds(1)));
  now_ += absl::Seconds(2);
  EXPECT_TRUE(TickAll());
  EXPECT_EQ(directory_.endpoints().size(), 2u);
  now_ += absl::Seconds(2);
  EXPECT_FALSE(TickAll());
}

TEST_F(ServerDirectoryTest, WhatHasGoneIsKeptForOneLookup) {
  names_.Set("emb:1", {"10.0.0.1:1"});
  directory_.SetNames({"emb:1"});
  EXPECT_TRUE(TickAll());
  names_.Set("emb:1", {"10.0.0.2:1"});
  now_ += absl::Seconds(2);
  EXPECT_TRUE(TickAll());
  EXPECT_THAT(Labels(), ElementsAre("emb:1 (10.0.0.1:1)", "emb:1 (10.0.0.2:1)"));
  // One that fails says nothing of it.
  names_.Set("emb:1", {});
  now_ += absl::Seconds(2);
  EXPECT_FALSE(TickAll());
  names_.Set("emb:1", {"10.0.0.2:1"});
  now_ += absl::Seconds(2);
  EXPECT_TRUE(TickAll());
  EXPECT_THAT(Labels(), ElementsAre("emb:1"));
  now_ += absl::Seconds(2);
  EXPECT_FALSE(TickAll());
}

TEST_F(ServerDirectoryTest, WhatAnAnswerLacksOnceIsNotGivenUp) {
  names_.Set("emb:1", {"10.0.0.1:1", "10.0.0.2:1"});
  directory_.SetNames({"emb:1"});
  EXPECT_TRUE(TickAll());
  names_.Set("emb:1", {"10.0.0.2:1"});
  now_ += absl::Seconds(2);
  EXPECT_FALSE(TickAll());
  names_.Set("emb:1", {"10.0.0.1:1", "10.0.0.2:1"});
  now_ += absl::Seconds(2);
  EXPECT_FALSE(TickAll());
  EXPECT_EQ(directory_.endpoints().size(), 2u);
}

TEST_F(ServerDirectoryTest, WhatWasKnownStaysWhenALookupFails) {
  names_.Set("emb:1", {"10.0.0.1:1"});
  directory_.SetNames({"emb:1"});
  EXPECT_TRUE(TickAll());
  names_.Set("emb:1", {});
  now_ += absl::Seconds(2);
  EXPECT_FALSE(TickAll());
  EXPECT_THAT(Labels(), ElementsAre("emb:1"));
  EXPECT_THAT(directory_.unresolved(), IsEmpty());
}

TEST_F(ServerDirectoryTest, WhatStandsForNothingIsSaid) {
  names_.Set("nowhere:1", {});
  directory_.SetNames({"nowhere:1"});
  ASSERT_EQ(directory_.unresolved().size(), 1u);
  EXPECT_FALSE(directory_.all_tried());
  TickAll();
  ASSERT_EQ(directory_.unresolved().size(), 1u);
  EXPECT_THAT(directory_.unresolved()[0].second,
              StatusIs(absl::StatusCode::kUnavailable, "nowhere:1 is not known"));
  EXPECT_TRUE(directory_.all_tried());
}

TEST_F(ServerDirectoryTest, NamesThatStayKeepWhatIsKnown) {
  waits_ = false;
  directory_.SetNames({"127.0.0.1:1", "127.0.0.1:2"});
  EXPECT_TRUE(TickAll());
  directory_.SetNames({"127.0.0.1:2", "127.0.0.1:3"});
  EXPECT_TRUE(directory_.Tick(now_));
  EXPECT_THAT(Labels(), ElementsAre("127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:1"));
}

// Lookups go on while those in their place are connected to.
TEST_F(ServerDirectoryTest, NamesThatGoAreKeptForAWhile) {
  waits_ = false;
  directory_.SetNames({"127.0.0.1:1", "127.0.0.1:2"});
  EXPECT_TRUE(TickAll());
  now_ += absl::Seconds(10);
  directory_.SetNames({"127.0.0.1:3"});
  EXPECT_TRUE(directory_.Tick(now_));
  EXPECT_EQ(directory_.next_tick(), now_ + absl::Seconds(2));
  directory_.SetNames({"127.0.0.1:3", "127.0.0.1:2"});
  EXPECT_TRUE(directory_.Tick(now_));
  EXPECT_THAT(Labels(), ElementsAre("127.0.0.1:3", "127.0.0.1:2", "127.0.0.1:1"));
  now_ += absl::Seconds(2) - absl::Nanoseconds(1);
  EXPECT_FALSE(directory_.Tick(now_));
  now_ += absl::Nanoseconds(1);
  EXPECT_TRUE(directory_.Tick(now_));
  EXPECT_THAT(Labels(), ElementsAre("127.0.0.1:3", "127.0.0.1:2"));
  EXPECT_EQ(directory_.next_tick(), absl::InfiniteFuture());
}

}  // namespace
}  // namespace engram
