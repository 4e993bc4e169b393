#include "storage/tokenizer.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <array>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/base/file.h"
#include "proto/base/json.h"
#include "proto/base/status_macros.h"
#include "proto/geometry.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxTokenizerBytes = uint64_t{256} << 20;
constexpr char16_t kReplacement = 0xFFFD;
constexpr UChar32 kSentinel = 0xE000;  // stands for a lone space while the ends are stripped

struct Token {
  std::string content;
  bool added = false;
};

absl::Status Complain(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

// ---------------------------------------------------------------- reading

absl::StatusOr<const json*> Vocabulary(const json& document, const std::string& path) {
  const auto model = document.find("model");
  if (model == document.end() || !model->is_object() || model->value("type", json()) != "BPE") {
    return Complain(path, "field `model` is not of type BPE");
  }
  const auto vocab = model->find("vocab");
  if (vocab == model->end() || !vocab->is_object() || vocab->empty()) {
    return Complain(path, "field `model.vocab` is missing or not an object of tokens");
  }
  return &*vocab;
}

absl::Status AddToken(const std::string& path, const json& id, const std::string& content,
                      bool added, std::vector<std::optional<Token>>& tokens) {
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= kMaxVocab) {
    return Complain(path, absl::StrCat("token `", content, "` has the id ", id.dump()));
  }
  const auto index = id.get<size_t>();
  if (index >= tokens.size()) tokens.resize(index + 1);
  std::optional<Token>& token = tokens[index];
  if (token.has_value() && token->content != content) {
    return Complain(path, absl::StrCat("token id ", index, " is `", token->content, "` and `",
                                       content, "`"));
  }
  token = Token{content, added};
  return absl::OkStatus();
}

absl::Status AddAddedTokens(const json& document, const std::string& path,
                            std::vector<std::optional<Token>>& tokens) {
  const auto added = document.find("added_tokens");
  if (added == document.end() || added->is_null()) return absl::OkStatus();
  if (!added->is_array()) return Complain(path, "field `added_tokens` is not a list");
  for (const json& entry : *added) {
    if (!entry.is_object() || !entry.contains("id") || !entry.contains("content") ||
        !entry["content"].is_string()) {
      return Complain(path, "field `added_tokens` has an entry without id or content");
    }
    RETURN_IF_ERROR(AddToken(path, entry["id"], entry["content"], true, tokens));
  }
  return absl::OkStatus();
}

// Every merge's two parts, and what they merge to, must be tokens: a tokenizer cut off on its way
// here would otherwise pass.
absl::Status CheckMerges(const json& document, const json& vocab, const std::string& path) {
  const auto merges = document["model"].find("merges");
  if (merges == document["model"].end()) return absl::OkStatus();
  if (!merges->is_array()) return Complain(path, "field `model.merges` is not a list");
  for (const json& merge : *merges) {
    std::string left, right;
    if (merge.is_string()) {
      const std::string& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      left = text.substr(0, space);
      if (space != std::string::npos) right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0];
      right = merge[1];
    }
    for (const std::string& token : {left, right, left + right}) {
      if (!token.empty() && vocab.contains(token)) continue;
      return Complain(path, absl::StrCat("field `model.merges` has ", merge.dump(),
                                         ", but there is no token `", token, "`"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Token>> ReadTokens(const json& document, const std::string& path) {
  ASSIGN_OR_RETURN(const json* vocab, Vocabulary(document, path));
  std::vector<std::optional<Token>> sparse;
  for (const auto& [content, id] : vocab->items()) {
    RETURN_IF_ERROR(AddToken(path, id, content, false, sparse));
  }
  RETURN_IF_ERROR(AddAddedTokens(document, path, sparse));
  RETURN_IF_ERROR(CheckMerges(document, *vocab, path));
  std::vector<Token> tokens;
  for (std::optional<Token>& token : sparse) {
    if (!token.has_value()) {
      return Complain(path, absl::StrCat("no token has the id ", tokens.size(), ", but higher ids are used"));
    }
    tokens.push_back(*std::move(token));
  }
  return tokens;
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

// What the token decodes to: the alphabet's bytes, or its content as it stands where a character is
// not of the alphabet (nullopt unless it is an added token).
std::optional<std::string> Decode(const Token& token) {
  std::string bytes;
  const auto* text = reinterpret_cast<const uint8_t*>(token.content.data());
  const auto size = static_cast<int32_t>(token.content.size());
  for (int32_t at = 0; at < size;) {
    UChar32 character;
    U8_NEXT(text, at, size, character);
    const int byte = ByteOf(character);
    if (byte < 0) return token.added ? std::optional(token.content) : std::nullopt;
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
  const icu::UnicodeString text = icu::UnicodeString::fromUTF8(bytes);  // U+FFFD where it is not UTF-8
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
      return Complain(path, absl::StrCat("field `model.vocab`: token `", token.content,
                                         "` is not of the byte-level alphabet"));
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
