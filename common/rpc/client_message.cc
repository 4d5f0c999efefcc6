#include "common/rpc/client_message.h"

#include <google/protobuf/descriptor.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/proto_wire.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace pregate {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

// Looks at every text in a message, before protobuf does: that would log it and not say which.
// Types of clients' messages do not nest themselves.
absl::Status CheckTexts(const Descriptor& type, WireReader reader, const std::string& path) {
  std::map<uint32_t, int> counts;  // of repeated fields
  while (!reader.AtEnd()) {
    ASSIGN_OR_RETURN(const WireField field, reader.Next());
    const FieldDescriptor* known = type.FindFieldByNumber(static_cast<int>(field.number));
    if (known == nullptr || field.type != WireType::kBytes) continue;
    std::string name = path + known->name();
    if (known->is_repeated()) absl::StrAppend(&name, "[", counts[field.number]++, "]");
    if (known->type() == FieldDescriptor::TYPE_STRING) {
      RETURN_IF_ERROR(CheckUtf8(field.bytes, name));
    } else if (known->type() == FieldDescriptor::TYPE_MESSAGE) {
      RETURN_IF_ERROR(CheckTexts(*known->message_type(), reader.Inner(field), name + "."));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseClientMessage(const grpc::ByteBuffer& buffer,
                                google::protobuf::Message* message) {
  const std::string bytes = BytesOf(buffer);
  const Descriptor& type = *message->GetDescriptor();
  RETURN_IF_ERROR(CheckTexts(type, WireReader(bytes, type.name()), ""));
  if (message->ParseFromString(bytes)) return absl::OkStatus();
  message->Clear();
  return absl::InvalidArgumentError(absl::StrCat("the request is no ", type.full_name()));
}

}  // namespace pregate
