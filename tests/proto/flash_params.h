// DeepSeek-V4.1-Flash's geometry.
#ifndef ENGRAM_TESTS_PROTO_FLASH_PARAMS_H_
#define ENGRAM_TESTS_PROTO_FLASH_PARAMS_H_

#include "proto/geometry.h"

namespace engram {

inline GeometryParams FlashParams() {
  GeometryParams params;
  params.layer_ids = {1, 14};
  params.max_ngram = 4;
  params.heads = 8;
  params.bucket_floors = {16000000, 16000000, 16000000};
  params.compressed_vocab = 99092;
  params.pad_token = 2;
  return params;
}

}  // namespace engram

#endif  // ENGRAM_TESTS_PROTO_FLASH_PARAMS_H_
