#include "storage/catalogue.h"

#include <string>

#include "engram/storage/v1/catalogue.pb.h"
#include "storage/file_frame.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

Sha256 DigestOf(uint8_t byte) {
  Sha256 digest;
  digest.fill(byte);
  return digest;
}

// What tests/storage/golden/catalogue-v1.bin holds: a retired table, two deltas on it in a row.
Catalogue GoldenCatalogue() {
  return {{{1, 0, 100}, {14, 7, uint64_t{1} << 33}},
          {{1, 0, DigestOf(1), KeptState::kRetired},
           {2, 1, DigestOf(2), KeptState::kActive},
           {5, 2, DigestOf(3), KeptState::kPrepared}}};
}

class CatalogueTest : public ::testing::Test {
 protected:
  absl::StatusOr<Catalogue> Reread(const Catalogue& catalogue) {
    EXPECT_THAT(WriteCatalogue(path_, catalogue), IsOk());
    return ReadCatalogue(path_);
  }

  TempDir dir_;
  const std::string path_ = dir_.File("catalogue");
};

// The format stays readable: this file was written by the format's first version.
TEST_F(CatalogueTest, ReadsTheGoldenFile) {
  EXPECT_THAT(ReadCatalogue("tests/storage/golden/catalogue-v1.bin"),
              IsOkAndHolds(GoldenCatalogue()));
}

// As written since generations are folded into a table that keeps that.
TEST_F(CatalogueTest, ReadsTheGoldenFileWithABase) {
  Catalogue golden = GoldenCatalogue();
  golden.base = DigestOf(9);
  EXPECT_THAT(ReadCatalogue("tests/storage/golden/catalogue-v1-base.bin"), IsOkAndHolds(golden));
}

TEST_F(CatalogueTest, RoundTrip) {
  EXPECT_THAT(Reread(GoldenCatalogue()), IsOkAndHolds(GoldenCatalogue()));
  Catalogue folded = GoldenCatalogue();
  folded.base = DigestOf(9);
  EXPECT_THAT(Reread(folded), IsOkAndHolds(folded));
  EXPECT_THAT(ReadCatalogue(dir_.File("none")), StatusIs(absl::StatusCode::kNotFound, "none"));
}

TEST_F(CatalogueTest, DamageIsNoticed) {
  ASSERT_THAT(WriteCatalogue(path_, GoldenCatalogue()), IsOk());
  const std::string bytes = ReadTestFile(path_);
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 8);
    WriteTestFile(path_, damaged);
    ASSERT_FALSE(ReadCatalogue(path_).ok()) << at;
    WriteTestFile(path_, bytes.substr(0, at));
    ASSERT_FALSE(ReadCatalogue(path_).ok()) << at;
  }
}

TEST_F(CatalogueTest, ContradictionsAreDataLoss) {
  const auto reread = [&](auto change) {
    Catalogue catalogue = GoldenCatalogue();
    change(catalogue.generations);
    return Reread(catalogue);
  };
  EXPECT_THAT(reread([](auto& all) { all[1].state = KeptState::kPrepared; }),
              StatusIs(kDataLoss, "0 generations are active"));
  EXPECT_THAT(reread([](auto& all) { all[2].state = KeptState::kActive; }),
              StatusIs(kDataLoss, "2 generations are active"));
  EXPECT_THAT(reread([](auto& all) { all[2].digest = all[1].digest; }),
              StatusIs(kDataLoss, "generation 5 contradicts"));
  EXPECT_THAT(reread([](auto& all) { all[2].id = 2; }), StatusIs(kDataLoss, "generation 2"));
  EXPECT_THAT(reread([](auto& all) { all[2].parent = 4; }), StatusIs(kDataLoss, "generation 5"));
  EXPECT_THAT(reread([](auto& all) { all[0].parent = 1; }), StatusIs(kDataLoss, "generation 1"));
  EXPECT_THAT(reread([](auto& all) { all.clear(); }), StatusIs(kDataLoss, "0 generations"));
}

TEST_F(CatalogueTest, WhatAllAreBuiltOnCanBeTheFirst) {
  const auto digests = [](const std::vector<KeptGeneration>& generations) {
    std::string text;
    for (const KeptGeneration& each : generations) text += std::to_string(each.digest[0]);
    return text;
  };
  Catalogue catalogue = GoldenCatalogue();
  EXPECT_EQ(digests(catalogue.Trunk()), "12");
  EXPECT_FALSE(catalogue.BeginAt(DigestOf(3)));  // The second is served.
  EXPECT_FALSE(catalogue.BeginAt(DigestOf(4)));
  EXPECT_TRUE(catalogue.BeginAt(DigestOf(1)));
  EXPECT_EQ(catalogue, GoldenCatalogue());
  EXPECT_TRUE(catalogue.BeginAt(DigestOf(2)));
  EXPECT_EQ(digests(catalogue.generations), "23");
  EXPECT_EQ(catalogue.generations[0].parent, 0u);
  EXPECT_EQ(catalogue.generations[1].parent, 2u);
  EXPECT_EQ(catalogue.base, DigestOf(1));
  EXPECT_THAT(Reread(catalogue), IsOkAndHolds(catalogue));
  // Two on a retired one: it is the last that they share.
  catalogue = GoldenCatalogue();
  catalogue.generations[1].state = KeptState::kRetired;
  catalogue.generations[2].state = KeptState::kActive;
  EXPECT_EQ(digests(catalogue.Trunk()), "123");
  catalogue.generations.push_back({6, 2, DigestOf(4), KeptState::kPrepared});
  EXPECT_EQ(digests(catalogue.Trunk()), "12");
  EXPECT_FALSE(catalogue.BeginAt(DigestOf(3)));
  // There and back: its last generation of the digest, and another as its base.
  catalogue = GoldenCatalogue();
  catalogue.generations[1].state = KeptState::kRetired;
  catalogue.generations[2] = {5, 2, DigestOf(1), KeptState::kActive};
  EXPECT_TRUE(catalogue.BeginAt(DigestOf(1)));
  EXPECT_EQ(digests(catalogue.generations), "1");
  EXPECT_EQ(catalogue.generations[0].id, 5u);
  EXPECT_EQ(catalogue.base, DigestOf(2));
}

TEST_F(CatalogueTest, PruneKeepsWhatOthersAreBuiltOn) {
  Catalogue catalogue = GoldenCatalogue();
  catalogue.generations[1].state = KeptState::kRetired;
  catalogue.generations[2].state = KeptState::kActive;
  EXPECT_THAT(catalogue.Prune(), testing::IsEmpty());
  catalogue.generations[0].state = KeptState::kActive;
  catalogue.generations[2].state = KeptState::kRetired;
  EXPECT_THAT(catalogue.Prune(), testing::ElementsAre(5, 2));
  ASSERT_EQ(catalogue.generations.size(), 1u);
  EXPECT_EQ(catalogue.next_id(), 2u);
}

}  // namespace
}  // namespace engram
