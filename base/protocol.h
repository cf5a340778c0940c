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

// The user agent of every call begins with this: "ktstr/2". ktstrd refuses all other calls, so that
// a client of another version cannot get around Handshake.
inline std::string ProtocolAgent() { return "ktstr/" + std::to_string(kProtocolVersion); }

}  // namespace ktstr::base

#endif  // KTSTR_BASE_PROTOCOL_H_
