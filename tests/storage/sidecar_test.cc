#include "storage/sidecar.h"

#include <cstring>
#include <string>
#include <vector>

#include "engram/storage/v1/sidecar.pb.h"
#include "proto/crc32c.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram {
namespace {

// What tests/storage/golden/sidecar-v1.bin holds: two blocks in layer 1, one in layer 14.
Sidecar GoldenSidecar() {
  Sidecar sidecar;
  for (size_t i = 0; i < sidecar.digest.size(); ++i) sidecar.digest[i] = static_cast<uint8_t>(i);
  sidecar.layers = {{1, kBlockRows + 1, {RowSum(1, 2), RowSum(~uint64_t{0}, uint64_t{1} << 63)}},
                    {14, 7, {RowSum(3, 4)}}};
  sidecar.token_map = TokenMap::Create({0, 1, 1, 2}).value();
  sidecar.files = {{"model-00001-of-00002.safetensors", 123456789012, 1700000000123456789}};
  return sidecar;
}

void ExpectGolden(const Sidecar& sidecar) {
  const Sidecar golden = GoldenSidecar();
  EXPECT_EQ(sidecar.digest, golden.digest);
  ASSERT_EQ(sidecar.layers.size(), golden.layers.size());
  for (size_t i = 0; i < golden.layers.size(); ++i) {
    EXPECT_EQ(sidecar.layers[i].layer, golden.layers[i].layer);
    EXPECT_EQ(sidecar.layers[i].rows, golden.layers[i].rows);
    EXPECT_EQ(sidecar.layers[i].blocks, golden.layers[i].blocks);
  }
  ASSERT_TRUE(sidecar.token_map.has_value());
  EXPECT_EQ(sidecar.token_map->sha256(), golden.token_map->sha256());
  ASSERT_EQ(sidecar.files.size(), 1u);
  EXPECT_EQ(sidecar.files[0].name, golden.files[0].name);
  EXPECT_EQ(sidecar.files[0].size, golden.files[0].size);
  EXPECT_EQ(sidecar.files[0].modified_ns, golden.files[0].modified_ns);
}

class SidecarTest : public ::testing::Test {
 protected:
  std::string Bytes() {
    EXPECT_THAT(WriteSidecar(path_, GoldenSidecar()), IsOk());
    return ReadTestFile(path_);
  }
  absl::StatusOr<Sidecar> ReadBack(absl::string_view bytes) {
    WriteTestFile(path_, bytes);
    return ReadSidecar(path_);
  }
  // A sound frame around any payload.
  static std::string Frame(std::string magic, uint32_t version, const std::string& payload) {
    const auto put = [&magic](auto value) {
      magic.append(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    put(version);
    put(Crc32c(payload.data(), payload.size()));
    put(uint64_t{payload.size()});
    put(Crc32c(magic.data(), magic.size()));
    return magic + payload;
  }
  static storage::v1::Sidecar Message(const std::string& file) {
    storage::v1::Sidecar message;
    EXPECT_TRUE(message.ParseFromString(file.substr(28)));
    return message;
  }
  absl::StatusOr<Sidecar> ReadMessage(const storage::v1::Sidecar& message) {
    return ReadBack(Frame("ENGRSIDE", 1, message.SerializeAsString()));
  }

  TempDir dir_;
  const std::string path_ = dir_.File("t.sidecar");
};

// The format stays readable: this file was written by the format's first version.
TEST_F(SidecarTest, ReadsTheGoldenFile) {
  ASSERT_OK_AND_ASSIGN(const Sidecar sidecar, ReadSidecar("tests/storage/golden/sidecar-v1.bin"));
  ExpectGolden(sidecar);
}

TEST_F(SidecarTest, RoundTrip) {
  ASSERT_OK_AND_ASSIGN(const Sidecar sidecar, ReadBack(Bytes()));
  ExpectGolden(sidecar);
  EXPECT_EQ(sidecar.TotalSum(), GoldenSidecar().TotalSum());
}

TEST_F(SidecarTest, WithTheTokenizersHash) {
  Sidecar sidecar = GoldenSidecar();
  sidecar.tokenizer_sha256 = Sha256Of("a tokenizer");
  ASSERT_THAT(WriteSidecar(path_, sidecar), IsOk());
  ASSERT_OK_AND_ASSIGN(const Sidecar read, ReadSidecar(path_));
  ExpectGolden(read);
  EXPECT_EQ(read.tokenizer_sha256, sidecar.tokenizer_sha256);
}

TEST_F(SidecarTest, WithoutATokenMap) {
  Sidecar sidecar = GoldenSidecar();
  sidecar.token_map.reset();
  ASSERT_THAT(WriteSidecar(path_, sidecar), IsOk());
  ASSERT_OK_AND_ASSIGN(const Sidecar read, ReadSidecar(path_));
  EXPECT_FALSE(read.token_map.has_value());
}

TEST_F(SidecarTest, AMissingFileIsNotFound) {
  EXPECT_THAT(ReadSidecar(path_), StatusIs(absl::StatusCode::kNotFound, path_));
}

TEST_F(SidecarTest, OtherFilesAndVersionsAreInvalidArgument) {
  const std::string payload = Bytes().substr(28);
  EXPECT_THAT(ReadBack(""), StatusIs(kInvalid, path_ + " is not a sidecar file"));
  EXPECT_THAT(ReadBack(Frame("ENGRSID?", 1, payload)),
              StatusIs(kInvalid, path_ + " is not a sidecar file"));
  EXPECT_THAT(ReadBack(Frame("ENGRSIDE", 2, payload)),
              StatusIs(kInvalid, path_ + " has format version 2; this program reads version 1"));
}

TEST_F(SidecarTest, ALayerListedTwiceIsRefused) {
  storage::v1::Sidecar message = Message(Bytes());
  *message.add_layers() = message.layers(0);
  EXPECT_THAT(ReadMessage(message), StatusIs(kDataLoss, "is listed twice"));
}

TEST_F(SidecarTest, CutOffAnywhereIsRefused) {
  const std::string bytes = Bytes();
  for (size_t size = 8; size < bytes.size(); ++size) {
    EXPECT_THAT(ReadBack(bytes.substr(0, size)), StatusIs(kDataLoss, path_)) << size;
  }
  EXPECT_THAT(ReadBack(bytes + "x"), StatusIs(kDataLoss, "bytes of payload, not"));
}

TEST_F(SidecarTest, AnyFlippedBitIsRefused) {
  const std::string bytes = Bytes();
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    // The magic says what the file is, so damage there looks like another kind of file.
    EXPECT_THAT(ReadBack(flipped), StatusIs(bit / 8 < 8 ? kInvalid : kDataLoss, path_)) << bit;
  }
}

TEST_F(SidecarTest, SoundFramesAroundWrongContents) {
  const storage::v1::Sidecar good = Message(Bytes());
  ASSERT_THAT(ReadMessage(good), IsOk());
  storage::v1::Sidecar bad = good;
  bad.mutable_digest()->pop_back();
  EXPECT_THAT(ReadMessage(bad), StatusIs(kDataLoss, path_ + ": a SHA-256 has 32 bytes, not 31"));
  bad = good;
  bad.set_tokenizer_sha256("short");
  EXPECT_THAT(ReadMessage(bad), StatusIs(kDataLoss, path_ + ": a SHA-256 has 32 bytes, not 5"));
  bad = good;
  bad.mutable_layers(0)->mutable_block_sums()->pop_back();
  EXPECT_THAT(ReadMessage(bad), StatusIs(kDataLoss, "layer 1 of 65537 rows has 31 bytes"));
  bad = good;
  bad.mutable_layers(1)->set_rows(~uint64_t{0});
  EXPECT_THAT(ReadMessage(bad), StatusIs(kDataLoss, "layer 14 of 18446744073709551615 rows"));
  bad = good;
  bad.mutable_token_map_sha256()->at(0) ^= 1;
  EXPECT_THAT(ReadMessage(bad), StatusIs(kDataLoss, "does not have the SHA-256 beside it"));
  bad = good;
  bad.mutable_token_map()->pop_back();
  EXPECT_THAT(ReadMessage(bad), StatusIs(kDataLoss, path_));
  EXPECT_THAT(ReadBack(Frame("ENGRSIDE", 1, "\xFF\xFF")),
              StatusIs(kDataLoss, "the payload is not a sidecar message"));
}

TEST_F(SidecarTest, AnUnwritablePlaceIsSaid) {
  EXPECT_THAT(WriteSidecar(dir_.File("no/such/dir"), GoldenSidecar()),
              StatusIs(absl::StatusCode::kNotFound, dir_.File("no/such/dir")));
}

}  // namespace
}  // namespace engram
