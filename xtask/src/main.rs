//! The one entry point for firebuild's developers.

#[cfg(feature = "generate")]
mod generate;

fn main() -> anyhow::Result<()> {
    #[cfg(feature = "generate")]
    generate::run(std::path::Path::new("."), false)?;
    Ok(())
}
