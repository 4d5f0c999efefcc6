#include "common/tls/grpc/call_authorizer.h"

#include <grpc/grpc_security_constants.h>

#include "common/base/status.h"
#include "common/tls/access_table.h"
#include "common/tls/grpc/string_ref.h"

namespace pregate {
namespace {

absl::Status Check(const grpc::AuthMetadataProcessor::InputMetadata& metadata,
                   const grpc::AuthContext& context, const std::string& trust_domain) {
  const auto path = metadata.find(":path");
  if (path == metadata.end()) return absl::PermissionDeniedError("the call names no method");
  const std::vector<grpc::string_ref> uris =
      context.FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME);
  if (uris.size() != 1) return absl::PermissionDeniedError("the peer has no identity");
  ASSIGN_OR_RETURN(const Role role, ParseIdentity(View(uris.front()), trust_domain));
  return CheckAccess(role, View(path->second));
}

}  // namespace

grpc::Status CallAuthorizer::Process(const InputMetadata& metadata, grpc::AuthContext* context,
                                     OutputMetadata*, OutputMetadata*) {
  const absl::Status status = Check(metadata, *context, gate_.files->options().trust_domain);
  if (status.ok()) return grpc::Status::OK;
  gate_.refusals->Add("grpc server", status.message());
  return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, std::string(status.message()));
}

}  // namespace pregate
