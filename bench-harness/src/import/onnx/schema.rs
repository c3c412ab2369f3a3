//! The part of the ONNX schema that transposed convolutions need, as message structures. Fields that are left out are
//! skipped when a file is read. The numbers are those of `onnx.proto`, which promises never to reuse one.

/// `ModelProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Model {
    /// The program that wrote the file.
    #[prost(string, tag = "2")]
    pub producer: String,
    /// The graph that runs.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Versions of the operator sets.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    /// Operators defined by the model itself.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Function>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSet {
    /// Empty for the standard operators.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Its version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Graph {
    /// In topological order.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Constant tensors.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What the caller hands over.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What the caller gets.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
    /// Declared types of values in between.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfo>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Names of values; empty for an optional input that is absent.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of values.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Of the node itself; may be empty.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Its parameters.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// The operator set.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// One integer.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// A text.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<Tensor>,
    /// A body.
    #[prost(message, optional, tag = "6")]
    pub g: Option<Graph>,
    /// Several integers.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// Several bodies.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    /// In the body of a function: the attribute of the call that holds the value.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    /// Its shape.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// Its element type, one of [`data_type`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Elements, where they are not raw.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Elements as little-endian bytes.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    /// Elements, where they are not raw.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Where the elements are, if `data_location` is 1: keys `location`, `offset`, `length`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// 0: in this message; 1: in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// `TensorProto.DataType`, as far as weights go.
pub mod data_type {
    /// 32-bit floating point.
    pub const FLOAT: i32 = 1;
    /// 16-bit floating point.
    pub const FLOAT16: i32 = 10;
    /// 64-bit floating point.
    pub const DOUBLE: i32 = 11;
    /// 16-bit brain floating point.
    pub const BFLOAT16: i32 = 16;
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// A key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfo {
    /// Of the value.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

/// `TypeProto`, where it is a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Type {
    /// Element type and shape.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorType {
    /// One of [`data_type`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// None where not even the rank is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    /// One for each axis.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    /// A size, or the name of one.
    #[prost(oneof = "Size", tags = "1, 2")]
    pub size: Option<Size>,
}

/// The size of an axis; absent where nothing is known.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Size {
    /// Known.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// Known when the model runs.
    #[prost(string, tag = "2")]
    Param(String),
}

/// `FunctionProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Function {
    /// The operator that it defines.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Names of its inputs inside the body.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// The body.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<Node>,
    /// Versions of the operator sets in the body.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSet>,
    /// The operator set that it belongs to.
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Attributes with default values.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<Attribute>,
    /// Declared types of values in the body.
    #[prost(message, repeated, tag = "12")]
    pub value_info: Vec<ValueInfo>,
}
