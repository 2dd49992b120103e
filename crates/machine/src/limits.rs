//! What a VM may take of its host beyond processors and memory: its VMM's control group, and the
//! rates of its disks and network.

use std::fmt;
use std::str::FromStr;

use firebuild_core::ByteSize;
use serde::{Deserialize, Serialize};

/// The period of `cpu.max`, in microseconds: the kernel's default.
pub const CPU_PERIOD: u64 = 100_000;

/// The room that a VMM needs besides its guest's memory, for its own code, translations and buffers.
pub const VMM_MEMORY: ByteSize = ByteSize::mib(128);

/// What a VM may take of its host. Nothing that is none is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Its share of the processors when there are not enough, against the 100 of any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<Weight>,
    /// How much of the processors it gets at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_max: Option<CpuMax>,
    /// How much memory the VMM may have, its guest's included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<ByteSize>,
    /// Its share of the host's disks when there is not enough, against the 100 of any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<Weight>,
    /// How many processes and threads the VMM may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u32>,
    /// How fast its disks are, all together.
    pub disks: DiskRates,
    /// How fast its network is, in bytes a second, in each direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<u64>,
}

impl Limits {
    /// Changes what `other` limits.
    pub fn change(&mut self, other: &Self) {
        let Self {
            cpu_weight,
            cpu_max,
            memory_max,
            io_weight,
            pids_max,
            disks,
            network,
        } = *other;
        self.cpu_weight = cpu_weight.or(self.cpu_weight);
        self.cpu_max = cpu_max.or(self.cpu_max);
        self.memory_max = memory_max.or(self.memory_max);
        self.io_weight = io_weight.or(self.io_weight);
        self.pids_max = pids_max.or(self.pids_max);
        self.disks.change(&disks);
        self.network = network.or(self.network);
    }
}

/// How fast the disks of a VM are, all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct DiskRates {
    /// Bytes that are read in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Bytes that are written in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes: Option<u64>,
    /// Reads in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_operations: Option<u64>,
    /// Writes in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_operations: Option<u64>,
}

impl DiskRates {
    /// Changes what `other` limits.
    fn change(&mut self, other: &Self) {
        let Self {
            read_bytes,
            write_bytes,
            read_operations,
            write_operations,
        } = *other;
        self.read_bytes = read_bytes.or(self.read_bytes);
        self.write_bytes = write_bytes.or(self.write_bytes);
        self.read_operations = read_operations.or(self.read_operations);
        self.write_operations = write_operations.or(self.write_operations);
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A weight of a control group: 1 to 10000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

/// How much of the processors somebody gets, in thousandths of one: 10 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct CpuMax(u32);

/// A value that is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {what}")]
pub struct ParseLimitError {
    given: String,
    what: &'static str,
}

fn no(given: &str, what: &'static str) -> ParseLimitError {
    let given = given.chars().take(100).collect();
    ParseLimitError { given, what }
}

const WEIGHT: &str = "a weight from 1 to 10000";
const CPU: &str = "a number of processors from 0.01 to 1000, such as `1.5`";

impl Weight {
    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// The same as control groups of version 1 have it for processors: 1024 is what others have.
    #[must_use]
    pub fn shares(self) -> u64 {
        (u64::from(self.0) * 1024 / 100).max(2)
    }

    /// The same as control groups of version 1 have it for disks: 10 to 1000, 500 is what others have.
    #[must_use]
    pub fn blkio(self) -> u64 {
        (u64::from(self.0) * 5).clamp(10, 1000)
    }
}

impl CpuMax {
    /// How many microseconds of each [`CPU_PERIOD`].
    #[must_use]
    pub fn quota(self) -> u64 {
        u64::from(self.0) * CPU_PERIOD / 1000
    }
}

impl FromStr for Weight {
    type Err = ParseLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: Result<u16, _> = text.parse();
        number
            .ok()
            .and_then(|number| Self::try_from(number).ok())
            .ok_or_else(|| no(text, WEIGHT))
    }
}

impl TryFrom<u16> for Weight {
    type Error = ParseLimitError;

    fn try_from(number: u16) -> Result<Self, Self::Error> {
        match number {
            1..=10_000 => Ok(Self(number)),
            _ => Err(no(&number.to_string(), WEIGHT)),
        }
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl FromStr for CpuMax {
    type Err = ParseLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || no(text, CPU);
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 3 || whole.len() > 4 {
            return Err(error());
        }
        let whole: u32 = whole.parse().map_err(|_| error())?;
        let thousandths: u32 = format!("{part:0<3}").parse().map_err(|_| error())?;
        Self::try_from(whole * 1000 + thousandths).map_err(|_| error())
    }
}

impl TryFrom<u32> for CpuMax {
    type Error = ParseLimitError;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        match number {
            10..=1_000_000 => Ok(Self(number)),
            _ => Err(no(&number.to_string(), CPU)),
        }
    }
}

impl From<CpuMax> for u32 {
    fn from(max: CpuMax) -> Self {
        max.0
    }
}

impl fmt::Display for CpuMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        for (text, quota, printed) in [
            ("1", 100_000, "1"),
            ("1.5", 150_000, "1.5"),
            ("0.01", 1_000, "0.01"),
            ("2.125", 212_500, "2.125"),
            ("1000", 100_000_000, "1000"),
        ] {
            let max: CpuMax = text.parse().unwrap();
            assert_eq!((max.quota(), max.to_string().as_str()), (quota, printed));
        }
        for text in [
            "", "0", "0.009", "1001", "1.", ".5", "-1", "1.2345", "1e3", "99999",
        ] {
            assert!(text.parse::<CpuMax>().is_err(), "{text}");
        }
    }

    #[test]
    fn weights() {
        let weight = |text: &str| text.parse::<Weight>();
        assert_eq!(weight("100").unwrap().shares(), 1024);
        assert_eq!(weight("100").unwrap().blkio(), 500);
        assert_eq!(
            (weight("1").unwrap().shares(), weight("1").unwrap().blkio()),
            (10, 10)
        );
        assert_eq!(weight("10000").unwrap().blkio(), 1000);
        for text in ["0", "10001", "", "x", "70000"] {
            assert!(weight(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_survive_a_record() {
        let limits = Limits {
            cpu_weight: "7".parse().ok(),
            cpu_max: "1.5".parse().ok(),
            disks: DiskRates {
                read_bytes: Some(1),
                ..DiskRates::default()
            },
            ..Limits::default()
        };
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), limits);
        assert!(serde_json::from_str::<Limits>(r#"{"CpuWeight":0}"#).is_err());
    }
}
