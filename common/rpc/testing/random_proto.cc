#include "common/rpc/testing/random_proto.h"

#include <algorithm>

namespace pregate::testing {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

class Filler {
 public:
  Filler(std::mt19937_64& random, const RandomProtoOptions& options)
      : random_(random), options_(options) {}

  void Fill(Message* message) {
    const auto* descriptor = message->GetDescriptor();
    for (int i = 0; i < descriptor->field_count(); ++i) {
      const FieldDescriptor* field = descriptor->field(i);
      if (field->real_containing_oneof() != nullptr) continue;
      const int count = field->is_repeated() ? Below(options_.repeated_max + 1) : 1;
      for (int k = 0; k < count; ++k) Set(message, field);
    }
    for (int i = 0; i < descriptor->real_oneof_decl_count(); ++i) {
      const auto* oneof = descriptor->oneof_decl(i);
      Set(message, oneof->field(Below(oneof->field_count())));
    }
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % n); }
  int64_t Number() { return options_.wild ? static_cast<int64_t>(random_()) : 1 + Below(15); }
  std::string Text() {
    std::string text(Below(8), 'x');
    for (char& c : text) c = static_cast<char>('a' + Below(26));
    return text;
  }
  int EnumValue(const FieldDescriptor* field) {
    return options_.wild ? static_cast<int>(random_())
                         : 1 + Below(field->enum_type()->value_count() - 1);
  }

  void Set(Message* message, const FieldDescriptor* field) {
    const Reflection* r = message->GetReflection();
    const bool many = field->is_repeated();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32: {
        const auto value = static_cast<int32_t>(Number());
        return many ? r->AddInt32(message, field, value) : r->SetInt32(message, field, value);
      }
      case FieldDescriptor::CPPTYPE_INT64:
        return many ? r->AddInt64(message, field, Number()) : r->SetInt64(message, field, Number());
      case FieldDescriptor::CPPTYPE_UINT32: {
        const auto value = static_cast<uint32_t>(Number());
        return many ? r->AddUInt32(message, field, value) : r->SetUInt32(message, field, value);
      }
      case FieldDescriptor::CPPTYPE_UINT64:
        return many ? r->AddUInt64(message, field, Number())
                    : r->SetUInt64(message, field, Number());
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return many ? r->AddDouble(message, field, Number())
                    : r->SetDouble(message, field, Number());
      case FieldDescriptor::CPPTYPE_FLOAT:
        return many ? r->AddFloat(message, field, Number()) : r->SetFloat(message, field, Number());
      case FieldDescriptor::CPPTYPE_BOOL:
        return many ? r->AddBool(message, field, Below(2)) : r->SetBool(message, field, Below(2));
      case FieldDescriptor::CPPTYPE_ENUM:
        return many ? r->AddEnumValue(message, field, EnumValue(field))
                    : r->SetEnumValue(message, field, EnumValue(field));
      case FieldDescriptor::CPPTYPE_STRING:
        return many ? r->AddString(message, field, Text()) : r->SetString(message, field, Text());
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Fill(many ? r->AddMessage(message, field) : r->MutableMessage(message, field));
    }
  }

  std::mt19937_64& random_;
  const RandomProtoOptions& options_;
};

}  // namespace

void FillRandom(Message* message, std::mt19937_64& random, const RandomProtoOptions& options) {
  Filler(random, options).Fill(message);
}

std::string Mutate(std::string bytes, std::mt19937_64& random) {
  const int num_changes = 1 + static_cast<int>(random() % 8);
  for (int i = 0; i < num_changes && !bytes.empty(); ++i) {
    const size_t at = random() % bytes.size();
    switch (random() % 4) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes.insert(at, 1, static_cast<char>(random()));
        break;
      case 2:
        bytes.erase(at, 1 + random() % 4);
        break;
      default:
        bytes.insert(at, bytes.substr(at, random() % 16));
    }
  }
  return bytes;
}

}  // namespace pregate::testing
