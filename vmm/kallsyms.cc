// SPDX-License-Identifier: Apache-2.0
#include "vmm/kallsyms.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"

namespace ktstr::vmm {
namespace {

constexpr size_t kTokens = 256;
constexpr size_t kNamesPerMarker = 256;
constexpr size_t kMaxName = 512;  // KSYM_NAME_LEN
constexpr uint32_t kMaxSymbols = 4 << 20;
// The names behind the last marker take at most this much: 256 times 512 bytes at the worst, and
// about 12 each in real kernels.
constexpr size_t kMaxLastNames = 64 << 10;
// Every kernel has names with digits, so the digits stand for themselves in its table.
constexpr std::string_view kDigits("0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0", 20);
// Bounds of the search in an image that was made to look like many tables.
constexpr int kMaxPlaces = 4096;
constexpr int kMaxTables = 4;
constexpr int kMaxMarkers = 64;

template <typename T>
std::optional<T> Load(std::string_view bytes, size_t place) {
  if (place > bytes.size() || sizeof(T) > bytes.size() - place) return std::nullopt;
  T value;
  memcpy(&value, bytes.data() + place, sizeof(value));
  return value;
}

struct Length {
  size_t tokens = 0;
  size_t header = 0;  // Bytes of the length itself; 0: damaged.
};

Length LengthAt(std::string_view bytes, size_t place) {
  const std::optional<uint8_t> first = Load<uint8_t>(bytes, place);
  if (!first.has_value() || *first == 0) return {};
  if (*first < 0x80) return {*first, 1};
  const std::optional<uint8_t> second = Load<uint8_t>(bytes, place + 1);
  if (!second.has_value()) return {};
  return {size_t{*first} % 0x80 + size_t{*second} * 0x80, 2};
}

}  // namespace

// Searches one segment.
class KallsymsFinder {
 public:
  KallsymsFinder(std::string_view bytes, uint64_t address, uint64_t low, uint64_t high)
      : address_(address), low_(low), high_(high) {
    found_.bytes_ = bytes;
  }

  std::optional<Kallsyms> Find() {
    int places = 0;
    int tables = 0;
    for (size_t at = bytes().find(kDigits); at != std::string_view::npos;
         at = bytes().find(kDigits, at + 1)) {
      if (++places > kMaxPlaces) return std::nullopt;
      if (!FindTokens(at)) continue;
      if (FindNames() && FindAddresses()) return std::move(found_);
      if (++tables >= kMaxTables) return std::nullopt;
    }
    return std::nullopt;
  }

  uint64_t looked_at() const { return looked_at_; }

 private:
  std::string_view bytes() const { return found_.bytes_; }
  // Labels are aligned as addresses.
  size_t AlignUp(size_t place, uint64_t alignment) const {
    return place + (alignment - (address_ + place) % alignment) % alignment;
  }
  size_t AlignDown(size_t place, uint64_t alignment) const {
    const uint64_t beyond = (address_ + place) % alignment;
    return beyond > place ? 0 : place - beyond;
  }

  // Where the string at `place` ends, behind its NUL.
  std::optional<size_t> EndOfToken(size_t place) const {
    const size_t length = bytes().substr(std::min(place, bytes().size()), kMaxName).find('\0');
    if (length == std::string_view::npos) return std::nullopt;
    return place + length + 1;
  }

  // `digits`: where the token "0" may begin.
  bool FindTokens(size_t digits) {
    size_t end = digits;
    for (size_t token = '0'; token < kTokens; ++token) {
      const std::optional<size_t> next = EndOfToken(end);
      if (!next.has_value()) return false;
      end = *next;
    }
    for (const uint64_t alignment : {4, 8}) {
      index_ = AlignUp(end, alignment);
      const auto before = Load<uint16_t>(bytes(), index_ + '0' * sizeof(uint16_t));
      if (!before.has_value() || *before > digits) continue;
      table_ = digits - *before;
      if (CheckTokens(end)) return true;
    }
    return false;
  }

  bool CheckTokens(size_t end) {
    size_t at = table_;
    for (size_t token = 0; token < kTokens; ++token) {
      const auto offset = Load<uint16_t>(bytes(), index_ + token * sizeof(uint16_t));
      const std::optional<size_t> next = EndOfToken(at);
      if (!offset.has_value() || *offset != at - table_ || !next.has_value()) return false;
      found_.tokens_[token] = at;
      at = *next;
    }
    return at == end;
  }

  bool FindNames() {
    // A word of zeros may pad the markers to 8 bytes.
    for (const size_t padding : {0, 4}) {
      if (table_ < padding || !IsZero(table_ - padding, table_)) continue;
      if (FindMarkers(table_ - padding) && FindNamesBefore()) return true;
    }
    return FindNamesBeforeSequences();
  }

  // The same with seqs_of_names in between: 3 bytes for each name, which tell how many markers
  // there are.
  bool FindNamesBeforeSequences() {
    const size_t start = AlignDown(table_, 8);
    int tries = 0;
    for (size_t size = 8; size < start && size / 3 <= kMaxSymbols; size += 8) {
      const size_t most = MarkersOf(size / 3);
      for (size_t count = MarkersOf((size - 7) / 3); count <= most; ++count) {
        for (const size_t padding : {0, 4}) {
          const size_t end = start - size - std::min(padding, start - size);
          if (!MayBeMarkers(end, count)) continue;
          if (++tries > kMaxMarkers) return false;
          if (FindMarkers(end) && markers_.size() == count && FindNamesBefore()) return true;
        }
      }
    }
    return false;
  }

  static size_t MarkersOf(size_t names) {
    return std::max<size_t>(1, (names + kNamesPerMarker - 1) / kNamesPerMarker);
  }

  // A first look at `count` markers that end at `end`.
  bool MayBeMarkers(size_t end, size_t count) const {
    const size_t size = count * sizeof(uint32_t);
    if (size > end || *Load<uint32_t>(bytes(), end - size) != 0) return false;
    if (count == 1) return true;
    const uint32_t second = *Load<uint32_t>(bytes(), end - size + sizeof(uint32_t));
    return second >= 2 * kNamesPerMarker && second <= kMaxLastNames;
  }

  bool IsZero(size_t from, size_t to) const {
    return bytes().substr(from, to - from).find_first_not_of('\0') == std::string_view::npos;
  }

  // The markers that end at `end`: they ascend from 0.
  bool FindMarkers(size_t end) {
    markers_.clear();
    for (size_t at = end; at >= sizeof(uint32_t);) {
      at -= sizeof(uint32_t);
      const uint32_t marker = *Load<uint32_t>(bytes(), at);
      if (!markers_.empty() && marker >= markers_.back()) return false;
      if (markers_.size() >= kMaxSymbols / kNamesPerMarker) return false;
      markers_.push_back(marker);
      markers_at_ = at;
      if (marker == 0) {
        std::reverse(markers_.begin(), markers_.end());
        return true;
      }
    }
    return false;
  }

  bool FindNamesBefore() {
    const size_t last = markers_.back();
    if (last + sizeof(uint32_t) > markers_at_) return false;
    const size_t first = markers_at_ - last;
    const size_t lowest = first - std::min(first, kMaxLastNames);
    for (size_t names = AlignDown(first, 4); names > lowest && names >= 8; names -= 4) {
      for (const size_t distance : {4, 8}) {
        const uint32_t count = *Load<uint32_t>(bytes(), names - distance);
        if (count <= (markers_.size() - 1) * kNamesPerMarker ||
            count > markers_.size() * kNamesPerMarker) {
          continue;
        }
        if (!IsZero(names - distance + sizeof(uint32_t), names)) continue;
        if (WalkNames(names, count)) {
          count_at_ = names - distance;
          return true;
        }
      }
    }
    return false;
  }

  bool WalkNames(size_t names, uint32_t count) {
    places_.clear();
    size_t at = names;
    for (uint32_t i = 0; i < count; ++i) {
      if (i % kNamesPerMarker == 0 && at - names != markers_[i / kNamesPerMarker]) return false;
      if (looked_at_ == Kallsyms::kMaxLooks) return false;
      ++looked_at_;
      const Length length = LengthAt(bytes(), at);
      if (length.header == 0 || at + length.header + length.tokens > markers_at_) return false;
      places_.push_back(at);
      at += length.header + length.tokens;
    }
    return markers_at_ - at < 8 && IsZero(at, markers_at_);
  }

  bool FindAddresses() {
    const size_t behind = index_ + kTokens * sizeof(uint16_t);
    const size_t size = places_.size() * sizeof(int32_t);
    if (const size_t offsets = AlignUp(behind, 8); WithBase(offsets, AlignUp(offsets + size, 8))) {
      return true;
    }
    if (count_at_ >= sizeof(uint64_t) + size) {
      const size_t base = count_at_ - sizeof(uint64_t);
      if (WithBase(AlignDown(base - size, 8), base)) return true;
    }
    return OfTheirPlace(AlignUp(behind, 4));
  }

  // A kernel with per-CPU data at absolute addresses has these as they are; any other address is
  // relative_base - 1 - offset then.
  bool WithBase(size_t offsets, size_t base_at) {
    const std::optional<uint64_t> base = Load<uint64_t>(bytes(), base_at);
    if (!base.has_value() || *base < low_ || *base >= high_) return false;
    bool negative = false;
    for (size_t i = 0; i < places_.size(); ++i) {
      const auto offset = Load<int32_t>(bytes(), offsets + i * sizeof(int32_t));
      if (!offset.has_value()) return false;
      negative |= *offset < 0;
    }
    return Collect([&](size_t i) {
      const int32_t offset = *Load<int32_t>(bytes(), offsets + i * sizeof(int32_t));
      if (!negative) return *base + static_cast<uint32_t>(offset);
      return offset >= 0 ? static_cast<uint64_t>(offset)
                         : *base + static_cast<uint64_t>(-1 - int64_t{offset});
    });
  }

  bool OfTheirPlace(size_t offsets) {
    if (!Load<int32_t>(bytes(), offsets + (places_.size() - 1) * sizeof(int32_t)).has_value()) {
      return false;
    }
    return Collect([&](size_t i) {
      const size_t at = offsets + i * sizeof(int32_t);
      return address_ + at + static_cast<uint64_t>(int64_t{*Load<int32_t>(bytes(), at)});
    });
  }

  // The addresses of a true table ascend, and most of them are the kernel's.
  template <typename AddressOf>
  bool Collect(AddressOf address_of) {
    found_.entries_.clear();
    uint64_t last = 0;
    for (size_t i = 0; i < places_.size(); ++i) {
      const uint64_t address = address_of(i);
      if (address < last) return false;
      last = address;
      if (address >= low_ && address <= high_) found_.entries_.push_back({address, places_[i]});
    }
    return found_.entries_.size() > places_.size() / 2;
  }

  const uint64_t address_;
  const uint64_t low_;
  const uint64_t high_;
  size_t table_ = 0;
  size_t index_ = 0;
  std::vector<uint32_t> markers_;
  size_t markers_at_ = 0;
  size_t count_at_ = 0;
  // An image can hold any number of places that look like the names: all looks together end.
  uint64_t looked_at_ = 0;
  std::vector<size_t> places_;  // Of the names.
  Kallsyms found_;
};

std::optional<Kallsyms> Kallsyms::Find(std::string_view bytes, uint64_t address, uint64_t low,
                                       uint64_t high, uint64_t* looked_at) {
  // Sums of addresses and places do not wrap then.
  if (bytes.size() > std::numeric_limits<uint64_t>::max() - address) return std::nullopt;
  KallsymsFinder finder(bytes, address, low, high);
  std::optional<Kallsyms> found = finder.Find();
  if (looked_at != nullptr) *looked_at = finder.looked_at();
  return found;
}

std::string_view Kallsyms::Token(uint8_t token) const {
  const std::string_view rest = bytes_.substr(tokens_[token]);
  return rest.substr(0, rest.find('\0'));
}

std::string Kallsyms::Name(size_t place) const {
  const Length length = LengthAt(bytes_, place);
  std::string name;
  for (size_t i = 0; i < length.tokens; ++i) {
    const std::optional<uint8_t> token = Load<uint8_t>(bytes_, place + length.header + i);
    if (!token.has_value()) return {};
    name += Token(*token);
    if (name.size() > kMaxName) return {};
  }
  return std::all_of(name.begin(), name.end(), absl::ascii_isgraph) ? name : std::string();
}

char Kallsyms::Type(size_t place) const {
  const Length length = LengthAt(bytes_, place);
  const auto token = Load<uint8_t>(bytes_, place + length.header);
  if (length.header == 0 || !token.has_value()) return '\0';
  const std::string_view text = Token(*token);
  return text.empty() ? '\0' : text[0];
}

}  // namespace ktstr::vmm
