//! Which instruction set the kernels use on this machine.

use std::sync::OnceLock;

/// Instruction sets that have kernels of their own; those of x86-64 each with all of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isa {
    /// Plain Rust, any processor.
    Portable,
    /// aarch64 with NEON and its products of bytes (`dotprod`: Arm servers since 2018, Apple since 2020).
    Neon,
    /// x86-64 with AVX2, FMA and F16C (Intel since 2013, AMD since 2015).
    Avx2,
    /// AVX2 with products of bytes summed in one instruction (Intel since 2021, AMD since Zen 5).
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL and VNNI (Intel servers since 2019, AMD since Zen 4).
    Avx512,
}

impl Isa {
    /// Whether AVX2, FMA and F16C are there.
    #[inline(always)]
    pub(crate) fn avx2(self) -> bool {
        self >= Isa::Avx2
    }

    /// 32-bit lanes of a register: the rows of a strip of block-quantised weights.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Isa::Neon => 4,
            Isa::Avx512 => 16,
            _ => 8,
        }
    }

    /// Bytes that a quantised activation has unless one is asked for: two where an instruction sums the products of bytes, because there they are multiplied faster
    /// than the weights arrive. One elsewhere.
    pub(crate) const fn planes(self) -> usize {
        match self {
            Isa::Neon | Isa::AvxVnni | Isa::Avx512 => 2,
            Isa::Portable | Isa::Avx2 => 1,
        }
    }

    /// All that this processor can run, the plain one first: what tests go through.
    #[cfg(test)]
    pub(crate) fn here() -> Vec<Isa> {
        [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::AvxVnni, Isa::Avx512]
            .into_iter()
            .filter(|isa| isa.is_here())
            .collect()
    }

    /// Whether this processor and its operating system can run it.
    fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = || has!("avx2") && has!("fma") && has!("f16c");
            let avx512 = || has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            match self {
                Isa::Portable => true,
                Isa::Neon => false,
                Isa::Avx2 => avx2(),
                Isa::AvxVnni => avx2() && has!("avxvnni"),
                Isa::Avx512 => avx2() && avx512() && has!("avx512vnni"),
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            self == Isa::Portable || self == Isa::Neon && has!("neon") && has!("dotprod")
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == Isa::Portable
        }
    }
}

/// The best instruction set of this processor; looked up once.
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let best = [Isa::Avx512, Isa::AvxVnni, Isa::Avx2, Isa::Neon].into_iter().find(|isa| isa.is_here());
        best.unwrap_or(Isa::Portable)
    })
}
