// SPDX-License-Identifier: Apache-2.0
//
// What ktstrctl and ktstrd agree on besides the messages of proto/ktstr/v1/service.proto. Any
// thread.

#ifndef KTSTR_BASE_PROTOCOL_H_
#define KTSTR_BASE_PROTOCOL_H_

#include <cstdint>
#include <string>

namespace ktstr::base {

// Changes when an older side would misunderstand a newer one.
inline constexpr uint32_t kProtocolVersion = 2;

// How the user agent of every call begins: "ktstr/2". ktstrd refuses calls of another one, so that
// a client cannot do without Handshake what Handshake would refuse.
inline std::string ProtocolAgent() { return "ktstr/" + std::to_string(kProtocolVersion); }

}  // namespace ktstr::base

#endif  // KTSTR_BASE_PROTOCOL_H_
