//! How a tensor's elements are stored.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The storage type of a tensor: plain numbers, or blocks of quantised ones.
///
/// A block type packs a fixed number of neighbouring elements of a row ([`block_len`](Dtype::block_len)) into a fixed
/// number of bytes ([`block_bytes`](Dtype::block_bytes)); plain types are blocks of one element. Names of the block
/// types are ggml's; their layouts are described in [`block`](super::block). All are little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a single precision number.
    BF16,
    /// IEEE 754 double precision.
    F64,
    /// One byte, zero is false.
    Bool,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 64-bit integer.
    U64,
    /// Signed 64-bit integer.
    I64,
    /// 4 bits, one scale per 32.
    Q4_0,
    /// 4 bits, one scale and one minimum per 32.
    Q4_1,
    /// 5 bits, one scale per 32.
    Q5_0,
    /// 5 bits, one scale and one minimum per 32.
    Q5_1,
    /// 8 bits, one scale per 32.
    Q8_0,
    /// 8 bits, one scale and the sum of the block per 32; a type of activations rather than of files.
    Q8_1,
    /// 2 bits, a 4-bit scale and minimum per 16, in blocks of 256.
    Q2K,
    /// 3 bits, a 6-bit scale per 16, in blocks of 256.
    Q3K,
    /// 4 bits, a 6-bit scale and minimum per 32, in blocks of 256.
    Q4K,
    /// 5 bits, a 6-bit scale and minimum per 32, in blocks of 256.
    Q5K,
    /// 6 bits, an 8-bit scale per 16, in blocks of 256.
    Q6K,
    /// 8 bits, one single precision scale per 256; a type of activations rather than of files.
    Q8K,
    /// 4 bits into a fixed table of 16 unevenly spaced values, one scale per 32.
    Iq4Nl,
    /// As [`Iq4Nl`](Dtype::Iq4Nl) with a 6-bit scale per 32, in blocks of 256.
    Iq4Xs,
    /// Ternary, five digits a byte, one scale per 256.
    Tq1_0,
    /// Ternary, 2 bits each, one scale per 256.
    Tq2_0,
    /// 4-bit floating point (E2M1) with a shared power of two per 32 (OCP MXFP4).
    Mxfp4,
}

impl Dtype {
    /// Elements in one block; 1 for plain numbers. A row's length is a multiple of it.
    pub const fn block_len(self) -> usize {
        self.layout().0
    }

    /// Bytes of one block; of one element for plain numbers.
    pub const fn block_bytes(self) -> usize {
        self.layout().1
    }

    /// Whether several elements share a block, so that the stored bytes are not numbers one can index.
    pub const fn is_block(self) -> bool {
        self.block_len() > 1
    }

    /// Whether weights are stored so: floating point numbers or blocks. Plain integers are not: they need scales from elsewhere.
    pub(crate) const fn is_weight(self) -> bool {
        self.is_block() || matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }

    /// Bytes that `elements` elements take; `None` if they do not fill whole blocks or the number overflows.
    pub const fn bytes_for(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    const ALL: [Self; 30] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::F64,
        Self::Bool,
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q8_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q8K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Tq1_0,
        Self::Tq2_0,
        Self::Mxfp4,
    ];

    const fn layout(self) -> (usize, usize) {
        match self {
            Self::Bool | Self::U8 | Self::I8 => (1, 1),
            Self::F16 | Self::BF16 | Self::U16 | Self::I16 => (1, 2),
            Self::F32 | Self::U32 | Self::I32 => (1, 4),
            Self::F64 | Self::U64 | Self::I64 => (1, 8),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q8_1 => (32, 36),
            Self::Mxfp4 => (32, 17),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Q8K => (256, 292),
            Self::Iq4Xs => (256, 136),
            Self::Tq1_0 => (256, 54),
            Self::Tq2_0 => (256, 66),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F64 => "F64",
            Self::Bool => "BOOL",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::U16 => "U16",
            Self::I16 => "I16",
            Self::U32 => "U32",
            Self::I32 => "I32",
            Self::U64 => "U64",
            Self::I64 => "I64",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q8_1 => "Q8_1",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Q8K => "Q8_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Tq1_0 => "TQ1_0",
            Self::Tq2_0 => "TQ2_0",
            Self::Mxfp4 => "MXFP4",
        }
    }
}

impl fmt::Display for Dtype {
    /// ggml's name of the type, such as `Q4_K`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = Error;

    /// ggml's name of the type in either case, such as `q4_k`.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::InvalidParameter {
                name: "dtype",
                got: name.to_string(),
                expected: "a name such as F16, Q8_0 or Q4_K".to_string(),
            }
        })
    }
}
