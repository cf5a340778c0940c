// SPDX-License-Identifier: Apache-2.0
//
// What ktstrctl and ktstrd agree on besides the messages of proto/ktstr/v1/service.proto. Any
// thread.

#ifndef KTSTR_BASE_PROTOCOL_H_
#define KTSTR_BASE_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace ktstr::base {

// Changes when an older side would misunderstand a newer one.
inline constexpr uint32_t kProtocolVersion = 3;

// The user agent of every call begins with this: "ktstr/3". ktstrd refuses all other calls, so that
// a client of another version cannot get around Handshake.
inline std::string ProtocolAgent() { return "ktstr/" + std::to_string(kProtocolVersion); }

// A message above it goes in pieces of this size (Piece of service.proto).
inline constexpr size_t kPieceBytes = size_t{1} << 20;
// What a client puts together of pieces: the most that ktstrd keeps of a run is below.
inline constexpr size_t kMaxPiecedBytes = size_t{256} << 20;

// Entries of a page of a list: when the client asks for none in particular, and at most. A page
// also ends with the entry with which it reaches kPieceBytes.
inline constexpr int32_t kDefaultPageSize = 100;
inline constexpr int32_t kMaxPageSize = 1000;

}  // namespace ktstr::base

#endif  // KTSTR_BASE_PROTOCOL_H_
