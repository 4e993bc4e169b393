// lookup SERVER[,SERVER...]: two rows by a ticket, then one token's rows by a slot's step.
#include <cstdio>
#include <engram_client.hpp>

using namespace engram::client;

static Status Run(const std::string& servers) {
  Result<Client> client = Client::ConnectJson("{\"servers\": \"" + servers + "\"}");
  if (!client.ok()) return client.status();
  const size_t row_bytes = client->Table()->row_bytes;
  const std::vector<int64_t> ids = {7, 0};
  std::vector<uint8_t> out(ids.size() * row_bytes);
  const engram_rows rows{1, 0, ids.data(), ids.size(), out.data(), out.size()};
  Ticket ticket;
  if (Status status = client->SubmitRows({&rows, 1}, ticket); !status.ok()) return status;
  if (Status status = ticket.Wait(1); !status.ok()) return status;  // after what needs no rows
  std::printf("row 7: %02x%02x, row 0: %02x%02x\n", out[0], out[1], out[row_bytes],
              out[row_bytes + 1]);

  engram_slot_options options = ENGRAM_SLOT_OPTIONS_INIT;  // once: its addresses stay
  options.max_tokens = 512;
  Result<Slot> slot = client->MakeSlot(options);
  if (!slot.ok()) return slot.status();
  const int32_t step_ids[2][24] = {{5}, {6}};  // every step: [layers, columns] of a token
  const engram_layer_ids layers[2] = {{step_ids[0], 4, 0, 48, 1}, {step_ids[1], 4, 0, 48, 1}};
  engram_step_ids step = ENGRAM_STEP_IDS_INIT;
  step.layers = layers, step.layer_count = 2, step.tokens = 1;
  if (Status status = slot->SubmitIds(step); !status.ok()) return status;
  if (Status status = slot->Wait(14); !status.ok()) return status;
  const uint8_t* const row = slot->Layer(14)->rows;
  std::printf("row 6 of layer 14: %02x%02x\n", row[0], row[1]);
  return Status();
}

int main(int argc, char** argv) {
  const Status status = Run(argc > 1 ? argv[1] : "");
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
