#ifndef ENGRAM_PROTO_VERSION_H_
#define ENGRAM_PROTO_VERSION_H_

namespace engram {
inline constexpr char kVersion[] = "0.1.0";
}  // namespace engram

#endif  // ENGRAM_PROTO_VERSION_H_
