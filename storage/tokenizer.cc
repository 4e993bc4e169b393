#include "storage/tokenizer.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <array>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/base/file.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr char16_t kReplacement = 0xFFFD;
constexpr UChar32 kSentinel = 0xE000;  // stands for a lone space while the ends are stripped

struct Token {
  std::string content;
  bool added = false;
};

absl::Status Complain(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

absl::Status Complain(const std::string& path, absl::string_view field, absl::string_view what) {
  return Complain(path, absl::StrCat("field `", field, "` ", what));
}

// ---------------------------------------------------------------- reading

// Tokens by id. Refuses whatever leaves open which token an id is, or which id a token has.
class TokenTable {
 public:
  // `entries`: how many entries the document lists. Ids without gaps are all below it, so a wild id
  // costs no memory.
  TokenTable(const std::string& path, size_t entries) : path_(path), tokens_(entries) {}

  absl::Status Add(absl::string_view field, const json& id, const std::string& content,
                   bool added) {
    if (!id.is_number_unsigned()) {
      return Complain(path_, field,
                      absl::StrCat("has a wrong id: token `", content, "` has the id ", id.dump()));
    }
    const auto index = id.get<uint64_t>();
    const auto [known, is_new] = ids_.emplace(content, index);
    if (known->second != index) {
      return Complain(path_, field,
                      absl::StrCat("has a wrong id: token `", content, "` has the ids ",
                                   known->second, " and ", index));
    }
    if (index >= tokens_.size()) return absl::OkStatus();  // leaves a gap, which Finish() refuses
    std::optional<Token>& token = tokens_[index];
    if (token.has_value() && token->content != content) {
      return Complain(path_, field,
                      absl::StrCat("has a wrong id: token id ", index, " is `", token->content,
                                   "` and `", content, "`"));
    }
    token = Token{content, added};
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Token>> Finish() && {
    std::vector<Token> dense;
    for (std::optional<Token>& token : tokens_) {
      if (dense.size() == ids_.size()) break;
      if (!token.has_value()) {
        return Complain(path_, "model.vocab",
                        absl::StrCat("has a gap: no token has the id ", dense.size(),
                                     ", but higher ids are used"));
      }
      dense.push_back(*std::move(token));
    }
    return dense;
  }

 private:
  const std::string& path_;
  std::vector<std::optional<Token>> tokens_;
  std::unordered_map<std::string, uint64_t> ids_;
};

absl::StatusOr<const json*> Vocabulary(const json& document, const std::string& path) {
  const auto model = document.find("model");
  if (model == document.end() || !model->is_object() || model->value("type", json()) != "BPE") {
    return Complain(path, "model", "is not of type BPE");
  }
  const auto vocab = model->find("vocab");
  if (vocab == model->end() || !vocab->is_object() || vocab->empty()) {
    return Complain(path, "model.vocab", "is missing or not an object of tokens");
  }
  return &*vocab;
}

// The list of added tokens, or nullptr where the document has none.
absl::StatusOr<const json*> AddedTokens(const json& document, const std::string& path) {
  const auto added = document.find("added_tokens");
  if (added == document.end() || added->is_null()) return nullptr;
  if (!added->is_array()) return Complain(path, "added_tokens", "is not a list");
  for (const json& entry : *added) {
    if (entry.is_object() && entry.contains("id") && entry.contains("content") &&
        entry["content"].is_string()) {
      continue;
    }
    return Complain(path, "added_tokens",
                    absl::StrCat("has an entry without id or content: ", entry.dump()));
  }
  return &*added;
}

// The two parts of a merge, written "a b" or ["a", "b"].
std::optional<std::pair<std::string, std::string>> PartsOf(const json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
  }
  if (!merge.is_string()) return std::nullopt;
  const auto& text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string::npos) return std::nullopt;
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

// Every merge's two parts, and what they merge to, must be tokens: a tokenizer cut off on its way
// here would otherwise pass.
absl::Status CheckMerges(const json& document, const json& vocab, const std::string& path) {
  const auto merges = document["model"].find("merges");
  if (merges == document["model"].end()) return absl::OkStatus();
  if (!merges->is_array()) return Complain(path, "model.merges", "is not a list");
  for (const json& merge : *merges) {
    const auto parts = PartsOf(merge);
    if (!parts.has_value()) {
      return Complain(path, "model.merges",
                      absl::StrCat("has ", merge.dump(), ", which is not a pair of tokens"));
    }
    const auto& [left, right] = *parts;
    for (const std::string& token : {left, right, left + right}) {
      if (vocab.contains(token)) continue;
      return Complain(path, "model.merges",
                      absl::StrCat("has ", merge.dump(), ", but there is no token `", token, "`"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Token>> ReadTokens(const json& document, const std::string& path) {
  ASSIGN_OR_RETURN(const json* vocab, Vocabulary(document, path));
  ASSIGN_OR_RETURN(const json* added, AddedTokens(document, path));
  TokenTable tokens(path, vocab->size() + (added == nullptr ? 0 : added->size()));
  for (const auto& [content, id] : vocab->items()) {
    RETURN_IF_ERROR(tokens.Add("model.vocab", id, content, false));
  }
  if (added != nullptr) {
    for (const json& entry : *added) {
      RETURN_IF_ERROR(tokens.Add("added_tokens", entry["id"], entry["content"], true));
    }
  }
  RETURN_IF_ERROR(CheckMerges(document, *vocab, path));
  return std::move(tokens).Finish();
}

// ---------------------------------------------------------------- text of a token

// The byte that a character of the byte-level alphabet stands for: printable bytes stand for
// themselves, the others, in order, have the characters from U+0100 on. -1: not of the alphabet.
int ByteOf(UChar32 character) {
  static const auto* const kTable = [] {
    auto* table = new std::array<int, 512>;
    table->fill(-1);
    size_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
                             (byte >= 0xAE && byte <= 0xFF);
      (*table)[printable ? static_cast<size_t>(byte) : next++] = byte;
    }
    return table;
  }();
  return character >= 0 && character < 512 ? (*kTable)[static_cast<size_t>(character)] : -1;
}

// The bytes that the token's text stands for; an added token is its text as it stands. nullopt
// where a character is not of the alphabet.
std::optional<std::string> Decode(const Token& token) {
  if (token.added) return token.content;
  std::string bytes;
  const auto* text = reinterpret_cast<const uint8_t*>(token.content.data());
  const auto size = static_cast<int32_t>(token.content.size());
  for (int32_t at = 0; at < size;) {
    UChar32 character;
    U8_NEXT(text, at, size, character);
    const int byte = ByteOf(character);
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

// ---------------------------------------------------------------- normalizing

class Normalizer {
 public:
  static absl::StatusOr<Normalizer> Create() {
    UErrorCode error = U_ZERO_ERROR;
    Normalizer normalizer;
    normalizer.nfkc_ = icu::Normalizer2::getNFKCInstance(error);
    normalizer.nfd_ = icu::Normalizer2::getNFDInstance(error);
    if (U_FAILURE(error)) {
      return absl::InternalError(absl::StrCat("ICU has no normalizers: ", u_errorName(error)));
    }
    return normalizer;
  }

  icu::UnicodeString Normalize(const icu::UnicodeString& text) const {
    UErrorCode error = U_ZERO_ERROR;
    const icu::UnicodeString decomposed = nfd_->normalize(nfkc_->normalize(text, error), error);
    icu::UnicodeString plain = CollapseSpaces(LowerWithoutMarks(decomposed));
    if (plain == icu::UnicodeString(u' ')) plain = icu::UnicodeString(kSentinel);
    plain = Strip(plain);
    return plain.findAndReplace(icu::UnicodeString(kSentinel), icu::UnicodeString(u' '));
  }

 private:
  // Simple lower case is enough: U+0130, whose lower case is two characters, was decomposed.
  static icu::UnicodeString LowerWithoutMarks(const icu::UnicodeString& text) {
    icu::UnicodeString out;
    for (int32_t at = 0; at < text.length(); at = text.moveIndex32(at, 1)) {
      const UChar32 character = text.char32At(at);
      if ((U_GET_GC_MASK(character) & U_GC_M_MASK) == 0) out.append(u_tolower(character));
    }
    return out;
  }

  static icu::UnicodeString CollapseSpaces(const icu::UnicodeString& text) {
    icu::UnicodeString out;
    bool in_run = false;
    for (int32_t at = 0; at < text.length(); ++at) {
      const char16_t unit = text.charAt(at);
      const bool space = unit == u' ' || unit == u'\t' || unit == u'\r' || unit == u'\n';
      if (!space) {
        out.append(unit);
      } else if (!in_run) {
        out.append(u' ');
      }
      in_run = space;
    }
    return out;
  }

  static icu::UnicodeString Strip(const icu::UnicodeString& text) {
    int32_t begin = 0;
    int32_t end = text.length();
    while (begin < end && u_isUWhiteSpace(text.char32At(begin))) begin = text.moveIndex32(begin, 1);
    while (end > begin && u_isUWhiteSpace(text.char32At(end - 1))) end = text.moveIndex32(end, -1);
    return icu::UnicodeString(text, begin, end - begin);
  }

  const icu::Normalizer2* nfkc_ = nullptr;
  const icu::Normalizer2* nfd_ = nullptr;
};

std::string KeyOf(const Normalizer& normalizer, const Token& token, const std::string& bytes) {
  const icu::UnicodeString text =
      icu::UnicodeString::fromUTF8(bytes);  // U+FFFD where it is not UTF-8
  if (text.indexOf(kReplacement) >= 0) return token.content;
  const icu::UnicodeString normal = normalizer.Normalize(text);
  if (normal.isEmpty()) return bytes;
  std::string key;
  normal.toUTF8String(key);
  return key;
}

}  // namespace

absl::StatusOr<TokenMap> BuildTokenMap(const std::string& path) {
  ASSIGN_OR_RETURN(const json document, ReadJsonFile(path, kMaxTokenizerBytes));
  ASSIGN_OR_RETURN(const std::vector<Token> tokens, ReadTokens(document, path));
  ASSIGN_OR_RETURN(const Normalizer normalizer, Normalizer::Create());
  std::unordered_map<std::string, uint32_t> ids_by_key;
  std::vector<uint32_t> compressed;
  for (const Token& token : tokens) {
    const std::optional<std::string> bytes = Decode(token);
    if (!bytes.has_value()) {
      return Complain(
          path, "model.vocab",
          absl::StrCat("has token `", token.content, "`, which is not of the byte-level alphabet"));
    }
    const auto next = static_cast<uint32_t>(ids_by_key.size());
    compressed.push_back(ids_by_key.emplace(KeyOf(normalizer, token, *bytes), next).first->second);
  }
  return TokenMap::Create(std::move(compressed));
}

absl::Status PadTokenizer(const std::string& from, uint32_t tokens, const std::string& to) {
  ASSIGN_OR_RETURN(json document, ReadJsonFile(from, kMaxTokenizerBytes));
  ASSIGN_OR_RETURN(const std::vector<Token> present, ReadTokens(document, from));
  if (present.size() > tokens) {
    return Complain(from, absl::StrCat("has ", present.size(), " tokens, more than ", tokens));
  }
  json& added = document["added_tokens"];
  if (added.is_null()) added = json::array();
  for (size_t id = present.size(); id < tokens; ++id) {
    added.push_back({{"id", id},
                     {"content", absl::StrCat("<|engram placeholder ", id, "|>")},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  return WriteFileAtomically(to, document.dump());
}

}  // namespace engram
