// The model that ships: what torch computes, wherever its rows come from, whatever the chunks.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "deploy/model/decoder.h"
#include "deploy/model/live_reading.h"
#include "deploy/model/memory.h"
#include "deploy/model/text_model.h"
#include "proto/base/file.h"
#include "proto/base/json.h"
#include "service/server.h"
#include "storage/table.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/status_matchers.h"

namespace engram::model {
namespace {

constexpr char kModel[] = "deploy/model/kjv";
constexpr char kPaperModel[] = "tests/model/paper";  // make_paper.py makes it
constexpr char kTaught[] = "deploy/model/taught";    // tables alone

// A model's tables on four servers, two replicas of each of two shards.
class Servers {
 public:
  explicit Servers(const std::string& model = kModel) {
    for (uint32_t i = 0; i < 4; ++i) {
      auto table = LoadTable({.checkpoint = model,
                              .sidecar = "",
                              .shard = {i % 2, 2},
                              .expect_digest = std::nullopt,
                              .threads = 1,
                              .log = nullptr});
      EXPECT_THAT(table, IsOk());
      ServerOptions options;
      options.listen = "127.0.0.1:0";
      options.threads = 1;
      auto server = Server::Start(std::make_shared<const Table>(*std::move(table)), options);
      EXPECT_THAT(server, IsOk());
      addresses_.push_back((*server)->address());
      servers_.push_back(*std::move(server));
    }
  }
  const std::vector<std::string>& addresses() const { return addresses_; }
  void Kill(size_t i) { servers_[i].reset(); }

 private:
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::string> addresses_;
};

std::vector<uint32_t> TokensOf(absl::string_view text) {
  std::vector<uint32_t> tokens = {kBeginToken};
  for (char byte : text) tokens.push_back(static_cast<uint8_t>(byte));
  return tokens;
}

std::string HeldOut(size_t begin, size_t size) {
  auto text = ReadFile(absl::StrCat(kModel, "/held_out.txt"), 1 << 20);
  EXPECT_THAT(text, IsOk());
  return text->substr(begin, size);
}

// One sequence that a decoder is at.
struct Sequence {
  Sequence(const Decoder& decoder, Memory& memory)
      : decoder(decoder), memory(memory), state(decoder.NewState()) {}

  // The logits of the next tokens.
  std::vector<float> Next(std::span<const uint32_t> tokens) {
    auto rows = memory.Fetch(tokens, look_back);
    EXPECT_THAT(rows, IsOk());
    std::vector<float> logits(tokens.size() * decoder.vocab());
    EXPECT_THAT(decoder.Forward(tokens, rows->get(), state, {logits}), IsOk());
    return logits;
  }

  std::vector<float> InChunks(std::span<const uint32_t> tokens, size_t chunk) {
    std::vector<float> logits;
    for (size_t at = 0; at < tokens.size(); at += chunk) {
      const std::vector<float> some = Next(tokens.subspan(at, std::min(chunk, tokens.size() - at)));
      logits.insert(logits.end(), some.begin(), some.end());
    }
    return logits;
  }

  const Decoder& decoder;
  Memory& memory;
  SequenceState state;
  LookBack look_back;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class ModelTest : public testing::Test {
 protected:
  explicit ModelTest(const std::string& model = kModel) {
    auto opened = OpenMemory(model);
    EXPECT_THAT(opened, IsOk());
    local = *std::move(opened);
    auto made = Decoder::Open(model, local.get());
    EXPECT_THAT(made, IsOk());
    decoder = *std::move(made);
  }

  std::unique_ptr<Memory> local;
  std::unique_ptr<Decoder> decoder;
};

// Of V4.1's layout, and of the paper's.
class LayoutTest : public ModelTest, public testing::WithParamInterface<const char*> {
 protected:
  LayoutTest() : ModelTest(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Models, LayoutTest, testing::Values(kModel, kPaperModel),
                         [](const auto& info) { return info.index == 0 ? "v41" : "paper"; });

// f32 sums in another order, through four layers: 2e-4 of logits that go to 20.
void ExpectTorchsLogits(const std::string& directory, const Decoder& decoder, Memory& memory) {
  ASSERT_OK_AND_ASSIGN(const nlohmann::json torch,
                       ReadJsonFile(absl::StrCat(directory, "/logits.json"), 1 << 20));
  const std::vector<uint32_t> tokens = TokensOf(torch["prompt"].get<std::string>());
  const std::vector<float> logits = Sequence(decoder, memory).Next(tokens);
  const float* const last = logits.data() + (tokens.size() - 1) * decoder.vocab();
  ASSERT_EQ(torch["logits"].size(), decoder.vocab());
  for (size_t i = 0; i < decoder.vocab(); ++i) {
    EXPECT_NEAR(last[i], torch["logits"][i].get<float>(), 2e-4) << i;
  }
}

TEST_P(LayoutTest, LogitsAreTorchs) { ExpectTorchsLogits(GetParam(), *decoder, *local); }

TEST_F(ModelTest, LogitsByTablesThatWereTaughtAreTorchs) {
  ASSERT_OK_AND_ASSIGN(const auto taught, OpenMemory(kTaught));
  ExpectTorchsLogits(kTaught, *decoder, *taught);
}

TEST_P(LayoutTest, ChunksAndInstructionsGiveTheSameBits) {
  const std::vector<uint32_t> tokens = TokensOf(HeldOut(1000, 60));
  const std::vector<float> whole = Sequence(*decoder, *local).Next(tokens);
  for (size_t chunk : {1u, 2u, 7u, 32u, 59u}) {
    EXPECT_TRUE(SameBits(Sequence(*decoder, *local).InChunks(tokens, chunk), whole)) << chunk;
  }
  for (Isa isa : SupportedIsas()) {
    ASSERT_OK_AND_ASSIGN(const auto other, Decoder::Open(GetParam(), local.get(), isa));
    EXPECT_TRUE(SameBits(Sequence(*other, *local).Next(tokens), whole)) << static_cast<int>(isa);
  }
}

// The claim that the whole project rests on: remote rows change nothing, to the bit.
TEST_P(LayoutTest, RemoteRowsGiveTheLogitsOfLocalOnes) {
  Servers servers(GetParam());
  ASSERT_OK_AND_ASSIGN(const auto remote, ConnectMemory({.servers = servers.addresses()}));
  ASSERT_OK_AND_ASSIGN(const auto far, Decoder::Open(GetParam(), remote.get()));
  const std::vector<uint32_t> tokens = TokensOf(HeldOut(5000, 80));
  const std::vector<float> expected = Sequence(*decoder, *local).Next(tokens);
  for (size_t chunk : {1u, 5u, 81u}) {
    EXPECT_TRUE(SameBits(Sequence(*far, *remote).InChunks(tokens, chunk), expected)) << chunk;
  }
  // Sequences side by side, as a batch's decode steps are.
  std::vector<std::unique_ptr<Sequence>> runs;
  std::vector<std::vector<uint32_t>> texts;
  std::vector<std::vector<float>> logits(5);
  for (size_t i = 0; i < logits.size(); ++i) {
    runs.push_back(std::make_unique<Sequence>(*far, *remote));
    texts.push_back(TokensOf(HeldOut(7000 + 100 * i, 19)));
  }
  for (size_t step = 0; step < texts[0].size(); ++step) {
    for (size_t i = 0; i < runs.size(); ++i) {
      const std::vector<float> some = runs[i]->Next({&texts[i][step], 1});
      logits[i].insert(logits[i].end(), some.begin(), some.end());
    }
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_TRUE(SameBits(Sequence(*decoder, *local).Next(texts[i]), logits[i])) << i;
  }
}

TEST_P(LayoutTest, AServerThatIsKilledChangesNoBit) {
  Servers servers(GetParam());
  ASSERT_OK_AND_ASSIGN(const auto remote, ConnectMemory({.servers = servers.addresses()}));
  const std::vector<uint32_t> tokens = TokensOf(HeldOut(9000, 60));
  const std::vector<float> expected = Sequence(*decoder, *local).Next(tokens);
  Sequence run(*decoder, *remote);
  std::vector<float> logits;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i == 20) servers.Kill(0);  // its replica is server 2
    if (i == 40) servers.Kill(3);  // its replica is server 1
    const std::vector<float> some = run.Next({&tokens[i], 1});
    logits.insert(logits.end(), some.begin(), some.end());
  }
  EXPECT_TRUE(SameBits(logits, expected));
}

TEST_F(ModelTest, WhatIsWrittenFollowsFromSeedAndPrompt) {
  Servers servers;
  ASSERT_OK_AND_ASSIGN(const auto remote, ConnectMemory({.servers = servers.addresses()}));
  const auto write = [&](Memory& memory, const GenerateOptions& options) {
    std::string text;
    EXPECT_THAT(Generate(*decoder, &memory, "And God said", options,
                         [&](char byte) { text.push_back(byte); }),
                IsOk());
    return text;
  };
  const std::string text = write(*local, {.bytes = 40, .seed = 7});
  EXPECT_EQ(text.size(), 40);
  EXPECT_EQ(write(*remote, {.bytes = 40, .seed = 7}), text);
  EXPECT_NE(write(*local, {.bytes = 40, .seed = 8}), text);
  EXPECT_THAT(Generate(*decoder, local.get(), "", {.temperature = -1}, [](char) {}),
              StatusIs(kInvalid, "a temperature of -1"));
}

// Memory that is taken away, or means nothing, is missed.
TEST_F(ModelTest, TheModelKnowsLessWithoutItsRows) {
  const std::string text = HeldOut(0, 2 * kWindow + 100);
  ASSERT_OK_AND_ASSIGN(const Reading with, Read(*decoder, local.get(), text));
  EXPECT_EQ(with.bytes, 2 * kWindow);
  ASSERT_EQ(with.gates.size(), 2);
  for (float gate : with.gates.at(1)) EXPECT_TRUE(gate > 0 && gate < 1) << gate;
  for (LocalRows rows : {LocalRows::kZeros, LocalRows::kShuffled}) {
    ASSERT_OK_AND_ASSIGN(const auto memory, OpenMemory(kModel, rows));
    ASSERT_OK_AND_ASSIGN(const Reading without, Read(*decoder, memory.get(), text));
    EXPECT_GT(without.nats, with.nats + 0.1);
  }
  EXPECT_THAT(Read(*decoder, local.get(), "short"), StatusIs(kInvalid, "shorter than a window"));
}

// One layer's rows of one table, the other's of another.
class MixedRows final : public RowsAhead {
 public:
  MixedRows(std::unique_ptr<RowsAhead> of_1, std::unique_ptr<RowsAhead> of_2)
      : of_1_(std::move(of_1)), of_2_(std::move(of_2)) {}
  absl::StatusOr<std::span<const uint8_t>> Wait(uint32_t layer) override {
    return (layer == 1 ? of_1_ : of_2_)->Wait(layer);
  }

 private:
  std::unique_ptr<RowsAhead> of_1_, of_2_;
};

TEST_F(ModelTest, AStepOfTwoTablesIsTold) {
  EXPECT_THAT(KnownTables::Open({}), StatusIs(kInvalid, "no tables"));
  ASSERT_OK_AND_ASSIGN(const KnownTables tables, KnownTables::Open({kModel, kTaught}));
  ASSERT_OK_AND_ASSIGN(const auto taught, OpenMemory(kTaught));
  const std::vector<uint32_t> tokens = TokensOf("In the beginning");
  const auto of = [&](Memory& memory) {
    LookBack start;
    auto rows = memory.Fetch(tokens, start);
    EXPECT_THAT(rows, IsOk());
    return *std::move(rows);
  };
  ASSERT_OK_AND_ASSIGN(const std::string old_table, tables.TableOf(tokens, *of(*local)));
  EXPECT_EQ(old_table, kModel);
  ASSERT_OK_AND_ASSIGN(const std::string new_table, tables.TableOf(tokens, *of(*taught)));
  EXPECT_EQ(new_table, kTaught);
  MixedRows mixed(of(*local), of(*taught));
  EXPECT_THAT(tables.TableOf(tokens, mixed),
              StatusIs(absl::StatusCode::kDataLoss,
                       "layer 1: deploy/model/kjv; layer 2: deploy/model/taught"));
  ASSERT_OK_AND_ASSIGN(const auto zeros, OpenMemory(kModel, LocalRows::kZeros));
  EXPECT_THAT(tables.TableOf(tokens, *of(*zeros)),
              StatusIs(absl::StatusCode::kDataLoss, "layer 1: of none"));
}

TEST_F(ModelTest, CallsThatDoNotFitAreRefused) {
  SequenceState state = decoder->NewState();
  LookBack look_back;
  const std::vector<uint32_t> tokens = {kBeginToken, 'A'};
  ASSERT_OK_AND_ASSIGN(const auto rows, local->Fetch(tokens, look_back));
  EXPECT_THAT(decoder->Forward({}, rows.get(), state, {}), StatusIs(kInvalid, "no tokens"));
  EXPECT_THAT(decoder->Forward(tokens, nullptr, state, {}), StatusIs(kInvalid, "no rows"));
  std::vector<float> logits(3);
  EXPECT_THAT(decoder->Forward(tokens, rows.get(), state, {logits}),
              StatusIs(kInvalid, "`logits` has 3 values, expected [2, 259]"));
  const std::vector<uint32_t> beyond = {259};
  EXPECT_THAT(decoder->Forward(beyond, rows.get(), state, {}),
              StatusIs(kInvalid, "token 259 is beyond"));
  SequenceState other = decoder->NewState();
  EXPECT_THAT(decoder->Forward({tokens.data(), 1}, rows.get(), other, {}),
              StatusIs(kInvalid, "`rows` has"));
}

// Rows with one byte of layer 2 changed.
class ChangedRows final : public RowsAhead {
 public:
  ChangedRows(std::unique_ptr<RowsAhead> rows, size_t at, uint8_t byte)
      : rows_(std::move(rows)), at_(at), byte_(byte) {}
  absl::StatusOr<std::span<const uint8_t>> Wait(uint32_t layer) override {
    auto rows = rows_->Wait(layer);
    EXPECT_THAT(rows, IsOk());
    bytes_.assign(rows->begin(), rows->end());
    if (layer == 2) bytes_[at_] = byte_;
    return std::span<const uint8_t>(bytes_);
  }

 private:
  std::unique_ptr<RowsAhead> rows_;
  const size_t at_;
  const uint8_t byte_;
  std::vector<uint8_t> bytes_;
};

TEST_F(ModelTest, ANanInARowIsNamedByItsPlace) {
  const std::vector<uint32_t> tokens = TokensOf("abc");
  LookBack look_back;
  ASSERT_OK_AND_ASSIGN(auto rows, local->Fetch(tokens, look_back));
  constexpr size_t kRow = 33, kColumns = 10;
  ChangedRows changed(std::move(rows), (2 * kColumns + 3) * kRow + 7, 0x7F);
  SequenceState state = decoder->NewState();
  EXPECT_THAT(decoder->Forward(tokens, &changed, state, {}),
              StatusIs(kInvalid, "layer 2: `rows`: NaN at sequence 0, token 2, column 3, value 7"));
}

// A copy of the checkpoint whose config.json was changed.
class ChangedModel {
 public:
  template <typename Change>
  explicit ChangedModel(const Change& change) {
    std::filesystem::create_directory(directory_.File("model"));
    std::filesystem::create_symlink(std::filesystem::absolute(kModel) / "model.safetensors",
                                    path() + "/model.safetensors");
    auto config = ReadJsonFile(absl::StrCat(kModel, "/config.json"), 1 << 20);
    EXPECT_THAT(config, IsOk());
    change(*config);
    std::ofstream(path() + "/config.json") << config->dump();
  }
  std::string path() const { return directory_.File("model"); }

 private:
  const TempDir directory_;
};

TEST_F(ModelTest, CheckpointsThatDoNotFitAreRefused) {
  const auto open = [&](auto change) {
    const ChangedModel model(change);
    return Decoder::Open(model.path(), local.get()).status();
  };
  EXPECT_THAT(open([](auto& c) { c.erase("decoder"); }), StatusIs(kInvalid, "`decoder`"));
  EXPECT_THAT(open([](auto& c) { c["decoder"]["heads"] = 5; }),
              StatusIs(kInvalid, "`heads` is 5, which does not divide 96"));
  EXPECT_THAT(open([](auto& c) { c["decoder"]["norm_eps"] = "x"; }),
              StatusIs(kInvalid, "`norm_eps`"));
  EXPECT_THAT(
      open([](auto& c) { c["decoder"]["layers"] = 5; }),
      StatusIs(kInvalid, "model.safetensors has no tensor `layers.4.attention_norm.weight`"));
  EXPECT_THAT(open([](auto& c) { c["decoder"]["mlp"] = 100; }),
              StatusIs(kInvalid, "`layers.0.up.weight` has 73728 bytes, expected [100, 96]"));
  EXPECT_THAT(open([](auto& c) {
                c["engram_layer_ids"] = {1, 3};
              }),
              StatusIs(kInvalid, "tables at layers 1, 2, "));
}

}  // namespace
}  // namespace engram::model
