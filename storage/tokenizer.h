// The token map of a Hugging Face tokenizer: the one place that knows Unicode.
#ifndef ENGRAM_STORAGE_TOKENIZER_H_
#define ENGRAM_STORAGE_TOKENIZER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/token_map.h"

namespace engram {

inline constexpr uint64_t kMaxTokenizerBytes = uint64_t{256} << 20;

// Reads a tokenizer.json (byte-level BPE, with added tokens) and maps every token id, in order: the
// id's text, special tokens included, is normalized (NFKC, NFD, marks of general category M
// dropped, lower case, runs of space, tab, CR, LF as one space, white space stripped at both ends
// unless the text is one space); texts that normalize alike share a compressed id. An added token's
// text is its content as it stands. A text with U+FFFD (part of a character) goes by its vocabulary
// string instead, one that normalizes to nothing by itself. InvalidArgument naming file and field:
// not a byte-level BPE tokenizer; ids that are not 0 .. N-1, each once; an added token that
// contradicts the vocabulary; merges of tokens that are not there.
absl::StatusOr<TokenMap> BuildTokenMap(const std::string& path);

// Copies a tokenizer with placeholder tokens added, each a compressed id of its own, up to `tokens`
// ids. Codes as BuildTokenMap; InvalidArgument if it has more already.
absl::Status PadTokenizer(const std::string& from, uint32_t tokens, const std::string& to);

}  // namespace engram

#endif  // ENGRAM_STORAGE_TOKENIZER_H_
