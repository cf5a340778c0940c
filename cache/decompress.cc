// SPDX-License-Identifier: Apache-2.0
#include "cache/decompress.h"

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/string_view.h"

namespace ktstr::cache {
namespace {

constexpr size_t kPiece = 256 << 10;
// Kernels are packed with dictionaries of up to 128 MiB (scripts/xz_wrap.sh, zstd --ultra -22).
constexpr uint64_t kMaxMemory = uint64_t{256} << 20;
constexpr int kMaxZstdWindowLog = 27;
// Uncompressed size of a block of LZ4's legacy frame.
constexpr size_t kLz4Block = size_t{8} << 20;
// After this many steps without output a decoder counts as stuck.
constexpr int kMaxIdleSteps = 1 << 20;

absl::Status Damaged(const char* format, std::string_view why) {
  return absl::DataLossError(
      absl::StrCat(format, " data is damaged or cut short: ", base::ToAbsl(why)));
}

// The loop around a decoder that consumes and makes pieces.
class StreamSource : public ByteSource {
 public:
  StreamSource(const char* format, ByteSource* input)
      : format_(format), input_(input), output_(kPiece) {}

  absl::StatusOr<std::string_view> Next() override {
    for (int idle = 0; !done_; ++idle) {
      if (pending_.empty() && !at_end_) {
        KTSTR_ASSIGN_OR_RETURN(pending_, input_->Next());
        at_end_ = pending_.empty();
      }
      size_t before = pending_.size();
      KTSTR_ASSIGN_OR_RETURN(size_t made, Step(&pending_, output_.data(), output_.size(), at_end_));
      if (made > 0) return std::string_view(output_.data(), made);
      if (!done_ && at_end_) return Damaged(format_, "unexpected end");
      if (!done_ && before == pending_.size() && idle > 2) return Damaged(format_, "no progress");
      if (idle > kMaxIdleSteps) return Damaged(format_, "no output");
    }
    return std::string_view();
  }

 protected:
  // Consumes from `in`, fills `out`, returns the bytes made; sets done_ at the end of the stream.
  virtual absl::StatusOr<size_t> Step(std::string_view* in, char* out, size_t size,
                                      bool at_end) = 0;

  const char* const format_;
  bool done_ = false;

 private:
  ByteSource* const input_;
  std::vector<char> output_;
  std::string_view pending_;
  bool at_end_ = false;
};

class GzipSource : public StreamSource {
 public:
  explicit GzipSource(ByteSource* input) : StreamSource("gzip", input) {
    ready_ = inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK;
  }
  ~GzipSource() override {
    if (ready_) inflateEnd(&stream_);
  }

 private:
  absl::StatusOr<size_t> Step(std::string_view* in, char* out, size_t size, bool at_end) override {
    if (!ready_) return absl::ResourceExhaustedError("gzip: out of memory");
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in->data()));
    stream_.avail_in = static_cast<uInt>(std::min<size_t>(in->size(), 1u << 30));
    size_t given = stream_.avail_in;
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(size);
    int result = inflate(&stream_, Z_NO_FLUSH);
    in->remove_prefix(given - stream_.avail_in);
    if (result == Z_STREAM_END) {
      done_ = true;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return Damaged(format_, stream_.msg != nullptr ? stream_.msg : zError(result));
    }
    return size - stream_.avail_out;
  }

  z_stream stream_ = {};
  bool ready_ = false;
};

class XzSource : public StreamSource {
 public:
  explicit XzSource(ByteSource* input) : StreamSource("xz", input) {
    init_ = lzma_stream_decoder(&stream_, kMaxMemory, 0);
  }
  ~XzSource() override { lzma_end(&stream_); }

 private:
  absl::StatusOr<size_t> Step(std::string_view* in, char* out, size_t size, bool at_end) override {
    if (init_ != LZMA_OK) return absl::ResourceExhaustedError("xz: out of memory");
    stream_.next_in = reinterpret_cast<const uint8_t*>(in->data());
    stream_.avail_in = in->size();
    stream_.next_out = reinterpret_cast<uint8_t*>(out);
    stream_.avail_out = size;
    lzma_ret result = lzma_code(&stream_, at_end ? LZMA_FINISH : LZMA_RUN);
    in->remove_prefix(in->size() - stream_.avail_in);
    if (result == LZMA_STREAM_END) {
      done_ = true;
    } else if (result == LZMA_MEMLIMIT_ERROR || result == LZMA_MEM_ERROR) {
      return absl::ResourceExhaustedError(
          absl::StrCat("xz data needs more than ", kMaxMemory >> 20, " MiB of memory to unpack"));
    } else if (result != LZMA_OK && result != LZMA_BUF_ERROR) {
      return Damaged(format_, absl::StrCat("liblzma error ", static_cast<int>(result)));
    }
    return size - stream_.avail_out;
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
  lzma_ret init_;
};

class ZstdSource : public StreamSource {
 public:
  explicit ZstdSource(ByteSource* input)
      : StreamSource("zstd", input), context_(ZSTD_createDCtx(), &ZSTD_freeDCtx) {
    if (context_ != nullptr) {
      ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
    }
  }

 private:
  absl::StatusOr<size_t> Step(std::string_view* in, char* out, size_t size, bool at_end) override {
    if (context_ == nullptr) return absl::ResourceExhaustedError("zstd: out of memory");
    ZSTD_inBuffer input = {in->data(), in->size(), 0};
    ZSTD_outBuffer output = {out, size, 0};
    size_t result = ZSTD_decompressStream(context_.get(), &output, &input);
    in->remove_prefix(input.pos);
    if (ZSTD_isError(result)) return Damaged(format_, ZSTD_getErrorName(result));
    if (result == 0) done_ = true;
    return output.pos;
  }

  std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context_;
};

// The kernel's lz4 (lib/decompress_unlz4.c): magic, then blocks of (32-bit size, data), no end
// mark; the build appends the 32-bit uncompressed size.
class Lz4LegacySource : public ByteSource {
 public:
  explicit Lz4LegacySource(ByteSource* input) : input_(input) {}

  absl::StatusOr<std::string_view> Next() override {
    if (done_) return std::string_view();
    if (!begun_) {
      KTSTR_RETURN_IF_ERROR(Fill(4));
      Consume(4);  // CompressionOf has seen the magic.
      begun_ = true;
      output_.resize(kLz4Block);
    }
    KTSTR_RETURN_IF_ERROR(Fill(4));
    if (Left() < 4) return End(Left() == 0);
    uint32_t size;
    memcpy(&size, buffer_.data() + at_, 4);
    // The appended size may look like the size of a block: it is one if a sound block follows.
    const bool may_end = size == total_ && total_ > 0;
    if (size == 0 || size > static_cast<uint32_t>(LZ4_COMPRESSBOUND(kLz4Block))) {
      return may_end ? End(true) : Damaged("lz4", absl::StrCat("block of ", size, " bytes"));
    }
    KTSTR_RETURN_IF_ERROR(Fill(size_t{4} + size));
    if (Left() < size_t{4} + size) return may_end ? End(true) : Damaged("lz4", "unexpected end");
    int made = LZ4_decompress_safe(buffer_.data() + at_ + 4, output_.data(), static_cast<int>(size),
                                   static_cast<int>(output_.size()));
    if (made <= 0) return may_end ? End(true) : Damaged("lz4", "bad block");
    Consume(size_t{4} + size);
    total_ += static_cast<uint32_t>(made);
    return std::string_view(output_.data(), static_cast<size_t>(made));
  }

 private:
  size_t Left() const { return buffer_.size() - at_; }
  void Consume(size_t bytes) { at_ += std::min(bytes, Left()); }
  // Reads until buffer_ has `wanted` bytes left, or the input ends.
  absl::Status Fill(size_t wanted) {
    while (Left() < wanted) {
      KTSTR_ASSIGN_OR_RETURN(std::string_view piece, input_->Next());
      if (piece.empty()) return absl::OkStatus();
      buffer_.erase(0, std::exchange(at_, 0));
      buffer_.append(piece);
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::string_view> End(bool clean) {
    if (!clean || total_ == 0) return Damaged("lz4", "unexpected end");
    done_ = true;
    return std::string_view();
  }

  ByteSource* const input_;
  std::string buffer_;
  size_t at_ = 0;  // The part of buffer_ before it is consumed.
  std::vector<char> output_;
  uint32_t total_ = 0;  // Modulo 2^32, like the appended size.
  bool begun_ = false;
  bool done_ = false;
};

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(ByteSource* input) : input_(input) {}
  absl::StatusOr<std::string_view> Next() override { return input_->Next(); }

 private:
  ByteSource* const input_;
};

}  // namespace

Compression CompressionOf(std::string_view data) {
  auto starts = [&](std::string_view magic) { return data.substr(0, magic.size()) == magic; };
  if (starts(std::string_view("\x1f\x8b\x08", 3))) return Compression::kGzip;
  if (starts(std::string_view("\xfd\x37\x7a\x58\x5a\x00", 6))) return Compression::kXz;
  if (starts("\x28\xb5\x2f\xfd")) return Compression::kZstd;
  if (starts("\x02\x21\x4c\x18")) return Compression::kLz4Legacy;
  return Compression::kNone;
}

const char* CompressionName(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return "uncompressed";
    case Compression::kGzip:
      return "gzip";
    case Compression::kXz:
      return "xz";
    case Compression::kZstd:
      return "zstd";
    case Compression::kLz4Legacy:
      return "lz4";
  }
  return "?";
}

absl::StatusOr<std::unique_ptr<ByteSource>> Decompress(Compression compression, ByteSource* input) {
  switch (compression) {
    case Compression::kNone:
      return std::make_unique<PlainSource>(input);
    case Compression::kGzip:
      return std::make_unique<GzipSource>(input);
    case Compression::kXz:
      return std::make_unique<XzSource>(input);
    case Compression::kZstd:
      return std::make_unique<ZstdSource>(input);
    case Compression::kLz4Legacy:
      return std::make_unique<Lz4LegacySource>(input);
  }
  return absl::InternalError("no such compression");
}

absl::StatusOr<std::string> ReadAll(ByteSource* source, uint64_t max_bytes) {
  std::string data;
  for (;;) {
    KTSTR_ASSIGN_OR_RETURN(std::string_view piece, source->Next());
    if (piece.empty()) return data;
    if (data.size() + piece.size() > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("larger than ", max_bytes, " bytes when unpacked"));
    }
    data.append(piece);
  }
}

}  // namespace ktstr::cache
