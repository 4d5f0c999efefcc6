#include "common/tls/tls_metrics.h"

#include <algorithm>
#include <string>

#include "absl/time/time.h"

namespace pregate {
namespace {

double Timestamp(absl::Time time) { return absl::ToDoubleSeconds(time - absl::UnixEpoch()); }

absl::Time FirstEnd(const std::vector<X509Ptr>& certificates) {
  absl::Time first = absl::InfiniteFuture();
  for (const auto& certificate : certificates) first = std::min(first, NotAfter(certificate.get()));
  return first;
}

}  // namespace

void AddTlsMetrics(const std::shared_ptr<const TlsFiles>& files, MetricsRegistry* registry) {
  const auto add = [registry](const std::string& which) -> Gauge& {
    return registry->AddGauge("tls_certificate_expiry_timestamp_seconds",
                              "End of the certificate in use, in seconds since 1970",
                              {{"certificate", which}});
  };
  registry->BeforeSerialize([files, &own = add("own"), &authority = add("authority")] {
    const auto material = files->Taken();
    own.Set(Timestamp(NotAfter(material->certificate.get())));
    authority.Set(Timestamp(FirstEnd(material->authorities)));
  });
}

}  // namespace pregate
