//! Constant tensors: what is needed to run a layer on the weights of its file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::schema::{Tensor, data_type};
use crate::cli::Failure;

/// The elements as f32. `folder` is where the model lies: external data is relative to it, and may not leave it.
pub fn floats(tensor: &Tensor, folder: &Path) -> Result<Vec<f32>, Failure> {
    let name = &tensor.name;
    let fail = |problem: String| Failure(format!("tensor '{name}': {problem}"));
    let count = tensor
        .dims
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
        .ok_or_else(|| fail(format!("shape {:?} has no length", tensor.dims)))?;
    let external = tensor.data_location == 1;
    let raw = if external { external_bytes(tensor, folder).map_err(fail)? } else { tensor.raw_data.clone() };
    let values: Vec<f32> = match tensor.data_type {
        data_type::FLOAT if raw.is_empty() => tensor.float_data.clone(),
        data_type::FLOAT => raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        data_type::DOUBLE if raw.is_empty() => tensor.double_data.iter().map(|&v| v as f32).collect(),
        data_type::DOUBLE => raw.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
        data_type::BFLOAT16 => {
            let widen = |&b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16);
            raw.as_chunks().0.iter().map(widen).collect()
        }
        data_type::FLOAT16 => raw.as_chunks().0.iter().map(|&b| half(u16::from_le_bytes(b))).collect(),
        other => return Err(fail(format!("element type {other} is no floating-point type"))),
    };
    if values.len() != count {
        return Err(fail(format!("{} elements: shape {:?} needs {count}", values.len(), tensor.dims)));
    }
    Ok(values)
}

/// IEEE binary16 to f32, exactly.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, f32::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(e) - 15),
    };
    if sign == 1 { -size } else { size }
}

fn external_bytes(tensor: &Tensor, folder: &Path) -> Result<Vec<u8>, String> {
    let value = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| {
        let parse = |text: &str| text.parse::<u64>().map_err(|_| format!("external {key} '{text}'"));
        value(key).map(parse).transpose()
    };
    let location = value("location").ok_or("external data without a location")?;
    let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if !Path::new(location).components().all(inside) {
        return Err(format!("external data '{location}' is outside the model's folder"));
    }
    let path = folder.join(location);
    let cannot = |e: std::io::Error| format!("cannot read external data '{location}': {e}");
    let mut file = File::open(&path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let offset = number("offset")?.unwrap_or(0);
    let left = size.saturating_sub(offset);
    let length = number("length")?.unwrap_or(left);
    if length > left {
        return Err(format!("external data '{location}' ends before {offset} + {length} bytes"));
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset)).map_err(cannot)?;
    file.take(length).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x3555, 0.333_251_95), (1, 2f32.powi(-24))] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert_eq!((half(0x7bff), half(0x7c00)), (65504.0, f32::INFINITY));
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn every_way_to_store_elements_is_read() {
        let tensor = |data_type, raw: &[u8]| Tensor {
            dims: vec![2],
            data_type,
            raw_data: raw.to_vec(),
            ..Tensor::default()
        };
        let read = |t: &Tensor| floats(t, Path::new("")).map_err(|Failure(m)| m);
        let f32s = [1.0f32.to_le_bytes(), (-2.5f32).to_le_bytes()].concat();
        assert_eq!(read(&tensor(data_type::FLOAT, &f32s)), Ok(vec![1.0, -2.5]));
        let f64s = [1.0f64.to_le_bytes(), (-2.5f64).to_le_bytes()].concat();
        assert_eq!(read(&tensor(data_type::DOUBLE, &f64s)), Ok(vec![1.0, -2.5]));
        assert_eq!(read(&tensor(data_type::BFLOAT16, &[0x80, 0x3f, 0x20, 0xc0])), Ok(vec![1.0, -2.5]));
        assert_eq!(read(&tensor(data_type::FLOAT16, &[0x00, 0x3c, 0x00, 0xc1])), Ok(vec![1.0, -2.5]));
        let listed = Tensor { float_data: vec![1.0, -2.5], ..tensor(data_type::FLOAT, &[]) };
        assert_eq!(read(&listed), Ok(vec![1.0, -2.5]));
        assert!(read(&tensor(data_type::FLOAT, &f32s[..4])).unwrap_err().contains("1 elements"));
        assert!(read(&tensor(7, &f32s)).unwrap_err().contains("element type 7"));

        let outside = Tensor {
            data_location: 1,
            external_data: vec![Entry { key: "location".into(), value: "../secret".into() }],
            ..tensor(data_type::FLOAT, &[])
        };
        assert!(read(&outside).unwrap_err().contains("outside"));
    }

    use super::super::schema::Entry;
}
