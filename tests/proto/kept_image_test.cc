// proto/kept-v1.binpb is the descriptors of the first version's .proto files (`buf build`).
// Whatever it has is there today as it was: numbers, types, names. `buf breaking` of .ci/run says
// the same of more; this needs nothing but protobuf.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engram/v1/engram.pb.h"
#include "proto/base/file.h"

namespace engram {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;

constexpr char kPackage[] = "engram.v1.";

size_t CheckMessage(const google::protobuf::DescriptorProto& kept) {
  const auto* now =
      DescriptorPool::generated_pool()->FindMessageTypeByName(absl::StrCat(kPackage, kept.name()));
  EXPECT_NE(now, nullptr) << kept.name();
  if (now == nullptr) return 0;
  for (const auto& field : kept.field()) {
    const FieldDescriptor* const is = now->FindFieldByNumber(field.number());
    EXPECT_NE(is, nullptr) << kept.name() << "." << field.name();
    if (is == nullptr) continue;
    EXPECT_EQ(is->name(), field.name()) << kept.name();
    EXPECT_EQ(static_cast<int>(is->type()), static_cast<int>(field.type()))
        << kept.name() << "." << field.name();
    EXPECT_EQ(static_cast<int>(is->label()), static_cast<int>(field.label()))
        << kept.name() << "." << field.name();
    if (is->message_type() != nullptr) {
      EXPECT_EQ(absl::StrCat(".", is->message_type()->full_name()), field.type_name());
    }
  }
  return static_cast<size_t>(kept.field_size());
}

void CheckEnum(const google::protobuf::EnumDescriptorProto& kept) {
  const auto* now =
      DescriptorPool::generated_pool()->FindEnumTypeByName(absl::StrCat(kPackage, kept.name()));
  ASSERT_NE(now, nullptr) << kept.name();
  for (const auto& value : kept.value()) {
    const auto* const is = now->FindValueByNumber(value.number());
    ASSERT_NE(is, nullptr) << value.name();
    EXPECT_EQ(is->name(), value.name());
  }
}

void CheckService(const google::protobuf::ServiceDescriptorProto& kept) {
  const auto* now =
      DescriptorPool::generated_pool()->FindServiceByName(absl::StrCat(kPackage, kept.name()));
  ASSERT_NE(now, nullptr) << kept.name();
  for (const auto& method : kept.method()) {
    const auto* const is = now->FindMethodByName(method.name());
    ASSERT_NE(is, nullptr) << method.name();
    EXPECT_EQ(absl::StrCat(".", is->input_type()->full_name()), method.input_type());
    EXPECT_EQ(absl::StrCat(".", is->output_type()->full_name()), method.output_type());
    EXPECT_EQ(is->client_streaming(), method.client_streaming()) << method.name();
    EXPECT_EQ(is->server_streaming(), method.server_streaming()) << method.name();
  }
}

TEST(KeptImage, EverythingInItIsThereAsItWas) {
  v1::DescribeRequest::descriptor();  // links the messages in
  google::protobuf::FileDescriptorSet kept;
  ASSERT_TRUE(kept.ParseFromString(ReadFile("proto/kept-v1.binpb", 1 << 20).value()));
  size_t files = 0, fields = 0;
  for (const auto& file : kept.file()) {
    if (file.name() != "engram/v1/engram.proto") continue;
    ++files;
    for (const auto& message : file.message_type()) fields += CheckMessage(message);
    for (const auto& each : file.enum_type()) CheckEnum(each);
    for (const auto& service : file.service()) CheckService(service);
  }
  EXPECT_EQ(files, 1u);
  EXPECT_EQ(kept.file_size(), 5);
  EXPECT_EQ(fields, 82u);
}

}  // namespace
}  // namespace engram
