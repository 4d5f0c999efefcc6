// What the edge of a service needs of its engine: every service has this face.
#pragma once

#include <cstdint>
#include <functional>

namespace pregate {

using LinkId = uint64_t;  // a peer's stream at one engine, 1, 2, 3, ...; 0: none

// Peers say In and are told Out. Thread-safe, and nothing blocks.
template <typename In, typename Out>
class Peer {
 public:
  // Called by any thread, never by two at once for one link; must not block, nor call the engine.
  // May be called once more when the link is detached: it owns what it touches.
  using Send = std::function<void(Out)>;

  virtual ~Peer() = default;
  // Opens a link. An engine that speaks first has said hello when this returns. 0: it has stopped.
  virtual LinkId Attach(Send send) = 0;
  // False: the engine's inbox is full, or it has stopped. The message is lost, and the caller should
  // end the stream.
  virtual bool Submit(LinkId link, In message) = 0;
  // What the link had in the engine ends.
  virtual void Detach(LinkId link) = 0;
};

}  // namespace pregate
