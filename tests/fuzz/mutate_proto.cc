#include <google/protobuf/stubs/logging.h>

#include <memory>

#include "common/rpc/testing/random_proto.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// A message within `message` that is set, or null.
Message* Inner(Message* message, const FieldDescriptor* field, std::mt19937_64& random) {
  if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return nullptr;
  const auto* reflection = message->GetReflection();
  if (!field->is_repeated()) {
    return reflection->HasField(*message, field) ? reflection->MutableMessage(message, field)
                                                 : nullptr;
  }
  const int count = reflection->FieldSize(*message, field);
  if (count == 0) return nullptr;
  return reflection->MutableRepeatedMessage(message, field, static_cast<int>(random() % count));
}

void ChangeOnce(Message* message, std::mt19937_64& random) {
  const auto* descriptor = message->GetDescriptor();
  if (descriptor->field_count() == 0) return;
  const FieldDescriptor* field =
      descriptor->field(static_cast<int>(random() % descriptor->field_count()));
  Message* inner = Inner(message, field, random);
  if (inner != nullptr && random() % 4 != 0) return ChangeOnce(inner, random);
  if (random() % 4 == 0) return message->GetReflection()->ClearField(message, field);
  const std::unique_ptr<Message> other(message->New());
  testing::FillRandom(other.get(), random, {.wild = random() % 2 == 0});
  if (field->containing_oneof() != nullptr) return message->MergeFrom(*other);
  message->GetReflection()->SwapFields(message, other.get(), {field});
}

}  // namespace

std::string MutateProto(std::string_view bytes, std::mt19937_64& random, Message* message) {
  const google::protobuf::LogSilencer quiet;
  if (!message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return "";
  for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) ChangeOnce(message, random);
  return message->SerializeAsString();
}

}  // namespace pregate::fuzz
