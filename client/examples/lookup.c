/* lookup SERVER[,SERVER...]: two rows by a ticket, then one token's rows by a slot's step. */
#include <engram_client.h>
#include <stdio.h>
#include <stdlib.h>

static void check(engram_status* status) {
  if (status == NULL) return;
  fprintf(stderr, "error: %s\n", engram_status_message(status));
  exit(1);
}
int main(int argc, char** argv) {
  engram_client* client;
  char settings[4096];
  snprintf(settings, sizeof settings, "{\"servers\": \"%s\"}", argc > 1 ? argv[1] : "");
  check(engram_client_connect_json(settings, NULL, NULL, &client));
  static uint8_t out[2 * 264]; /* a table of 264-byte rows, or the submit says so */
  const int64_t ids[2] = {7, 0};
  engram_rows rows = {.layer = 1, .ids = ids, .count = 2, .out = out, .out_bytes = sizeof out};
  engram_ticket* ticket;
  check(engram_ticket_create(&ticket));
  check(engram_client_submit_rows(client, &rows, 1, NULL, ticket));
  check(engram_ticket_wait(ticket, 1, ENGRAM_FOREVER)); /* after what needs no rows */
  printf("row 7: %02x%02x, row 0: %02x%02x\n", out[0], out[1], out[264], out[265]);
  engram_ticket_destroy(ticket);
  engram_slot_options options = {.struct_size = sizeof options, .max_tokens = 512}; /* once */
  engram_slot* slot;
  engram_slot_layer_info memory = ENGRAM_SLOT_LAYER_INFO_INIT;
  check(engram_slot_create(client, &options, &slot));
  check(engram_slot_layer(slot, 14, &memory));
  static const int32_t step_ids[2][24] = {{5}, {6}}; /* every step: [layers, columns] of a token */
  engram_layer_ids layers[2] = {{step_ids[0], 4, 0, 48, 1}, {step_ids[1], 4, 0, 48, 1}};
  engram_step_ids step = ENGRAM_STEP_IDS_INIT;
  step.layers = layers, step.layer_count = 2, step.tokens = 1;
  check(engram_slot_submit_ids(slot, &step, NULL));
  check(engram_slot_wait(slot, 14, ENGRAM_FOREVER));
  printf("row 6 of layer 14: %02x%02x\n", memory.rows[0], memory.rows[1]);
  engram_slot_destroy(slot);
  engram_client_destroy(client);
}
