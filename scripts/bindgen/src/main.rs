//! The part of the `wasm-bindgen` command that the build uses, with the same options.

use anyhow::{Context, Result, bail};
use std::env;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut bindgen = Bindgen::new();
    let mut out_dir = None;
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--version" => {
                println!("wasm-bindgen {}", env!("CARGO_PKG_VERSION"));
                return Ok(());
            }
            "--target" => match value()?.as_str() {
                "web" => _ = bindgen.web(true)?,
                "nodejs" => _ = bindgen.nodejs(true)?,
                other => bail!("unknown target {other}"),
            },
            "--omit-default-module-path" => _ = bindgen.omit_default_module_path(true),
            "--experimental-reset-state-function" => _ = bindgen.reset_state_function(true),
            "--out-dir" => out_dir = Some(value()?),
            "--out-name" => _ = bindgen.out_name(&value()?),
            option if option.starts_with('-') => bail!("unknown option {option}"),
            input => _ = bindgen.input_path(input),
        }
    }
    bindgen.typescript(true).generate(out_dir.context("--out-dir is missing")?)
}
