#include "common/rpc/message_bytes.h"

#include <google/protobuf/descriptor.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/proto_wire.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/base/utf8.h"

namespace pregate {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Traits = grpc::SerializationTraits<Message>;

// Which message types have a string field, at any depth.
class TextTypes {
 public:
  bool HasText(const Descriptor* type) {
    absl::MutexLock lock(&mutex_);
    return Find(type);
  }

 private:
  bool Find(const Descriptor* type) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto [it, is_new] = known_.try_emplace(type, false);  // false also ends a recursion
    if (!is_new) return it->second;
    bool has_text = false;
    for (int i = 0; i < type->field_count(); ++i) {
      const FieldDescriptor* const field = type->field(i);
      has_text |= field->type() == FieldDescriptor::TYPE_STRING ||
                  (field->message_type() != nullptr && Find(field->message_type()));
    }
    return known_[type] = has_text;
  }

  absl::Mutex mutex_;
  absl::flat_hash_map<const Descriptor*, bool> known_ ABSL_GUARDED_BY(mutex_);
};

bool HasText(const Descriptor* type) {
  static auto* const types = new TextTypes;
  return types->HasText(type);
}

void MakeValid(const Reflection& reflection, const FieldDescriptor* field, Message* message) {
  std::string scratch;
  if (!field->is_repeated()) {
    const std::string& text = reflection.GetStringReference(*message, field, &scratch);
    if (!IsUtf8(text)) reflection.SetString(message, field, ReplaceStrayBytes(text));
    return;
  }
  for (int i = 0; i < reflection.FieldSize(*message, field); ++i) {
    const std::string& text = reflection.GetRepeatedStringReference(*message, field, i, &scratch);
    if (!IsUtf8(text)) reflection.SetRepeatedString(message, field, i, ReplaceStrayBytes(text));
  }
}

void MakeTextsValid(Message* message);

void MakePartsValid(const Reflection& reflection, const FieldDescriptor* field, Message* message) {
  if (!field->is_repeated()) return MakeTextsValid(reflection.MutableMessage(message, field));
  for (int i = 0; i < reflection.FieldSize(*message, field); ++i) {
    MakeTextsValid(reflection.MutableRepeatedMessage(message, field, i));
  }
}

// REQUIRES: its type has text.
void MakeTextsValid(Message* message) {
  const Reflection& reflection = *message->GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(*message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->type() == FieldDescriptor::TYPE_STRING) MakeValid(reflection, field, message);
    // Asked once for all of them: a plan's thousands of rows have none, and are not looked at.
    if (field->message_type() != nullptr && HasText(field->message_type())) {
      MakePartsValid(reflection, field, message);
    }
  }
}

}  // namespace

void MakeTextValid(Message* message) {
  if (HasText(message->GetDescriptor())) MakeTextsValid(message);
}

grpc::ByteBuffer ToBytes(Message* message) {
  MakeTextValid(message);
  grpc::ByteBuffer bytes;
  bool own = false;
  const grpc::Status status = Traits::Serialize(*message, &bytes, &own);
  PREGATE_CHECK(status.ok(), "serializing: ", message->GetTypeName(), status.error_message());
  return bytes;
}

absl::Status FromBytes(grpc::ByteBuffer* bytes, Message* message) {
  const size_t size = bytes->Length();
  if (Traits::Deserialize(bytes, message).ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a message of ", size, " bytes is no ", message->GetTypeName(), ", or its text is no UTF-8"));
}

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
