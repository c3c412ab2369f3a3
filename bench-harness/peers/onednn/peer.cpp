// A peer: transposed convolution by oneDNN's C API. Argument: the mode, nchw, nhwc or any (source and destination in this
// order, or in the one that the library prefers; weights always in the one that it prefers, packed before any run).
//
// Speaks the JSON lines of bench-harness/src/peers/protocol.rs. Its requests come from one writer with a fixed form: fields
// are found by name, without a parser.

#include <oneapi/dnnl/dnnl.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

using Dims = std::vector<dnnl_dim_t>;

// ---- messages -------------------------------------------------------------------------------------------------------

// What follows `"name":` in a request.
static const char *field(const std::string &line, const char *name) {
    const auto at = line.find("\"" + std::string(name) + "\":");
    if (at == std::string::npos) throw std::runtime_error(std::string("no field ") + name);
    return line.c_str() + at + strlen(name) + 3;
}

static long number(const std::string &line, const char *name) { return strtol(field(line, name), nullptr, 10); }

static bool is_true(const std::string &line, const char *name) { return !strncmp(field(line, name), "true", 4); }

static Dims list(const std::string &line, const char *name) {
    Dims values;
    const char *at = field(line, name);
    for (char *end; *at != ']'; at = end) values.push_back(strtol(at + 1, &end, 10));
    return values;
}

// Quotes and backslashes are undone; paths hold nothing else that JSON escapes.
static std::string text(const std::string &line, const char *name) {
    std::string value;
    const char *at = field(line, name);
    if (*at != '"') return value;
    for (++at; *at && *at != '"'; ++at) value += *at == '\\' ? *++at : *at;
    return value;
}

static std::string quoted(const std::string &value) {
    std::string out = "\"";
    for (const char c : value) out += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c < ' ' ? ' ' : c);
    return out + '"';
}

// ---- oneDNN ---------------------------------------------------------------------------------------------------------

struct Declined : std::runtime_error {
    using runtime_error::runtime_error;
};

static void check(dnnl_status_t status, const char *what) {
    if (status == dnnl_unimplemented) throw Declined(std::string(what) + ": unimplemented");
    if (status != dnnl_success) throw std::runtime_error(std::string(what) + ": status " + std::to_string(status));
}
#define CHECK(call) check(call, #call)

static dnnl_engine_t engine;
static dnnl_stream_t stream;

// Whatever the library makes, freed at the end of the scope.
template <typename T, dnnl_status_t (*destroy)(T)>
struct Owned {
    T value = nullptr;
    Owned() = default;
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() { reset(); }
    void reset() {
        if (value) destroy(value);
        value = nullptr;
    }
};
using Descriptor = Owned<dnnl_memory_desc_t, dnnl_memory_desc_destroy>;
using Memory = Owned<dnnl_memory_t, dnnl_memory_destroy>;
using Primitive = Owned<dnnl_primitive_t, dnnl_primitive_destroy>;
using PrimitiveDescriptor = Owned<dnnl_primitive_desc_t, dnnl_primitive_desc_destroy>;
using Attributes = Owned<dnnl_primitive_attr_t, dnnl_primitive_attr_destroy>;

static void describe(Descriptor &d, const Dims &dims, dnnl_format_tag_t tag) {
    CHECK(dnnl_memory_desc_create_with_tag(&d.value, int(dims.size()), dims.data(), dnnl_f32, tag));
}

static void allocate(Memory &memory, const_dnnl_memory_desc_t descriptor) {
    CHECK(dnnl_memory_create(&memory.value, descriptor, engine, DNNL_MEMORY_ALLOCATE));
    void *data = nullptr;
    CHECK(dnnl_memory_get_data_handle(memory.value, &data));
    if (data) memset(data, 0, dnnl_memory_desc_get_size(descriptor)); // touches its pages
}

static void execute(dnnl_primitive_t primitive, const std::vector<dnnl_exec_arg_t> &arguments) {
    CHECK(dnnl_primitive_execute(primitive, stream, int(arguments.size()), arguments.data()));
    CHECK(dnnl_stream_wait(stream));
}

static void reorder(const Memory &from, const Memory &to) {
    const_dnnl_memory_desc_t source, target;
    CHECK(dnnl_memory_get_memory_desc(from.value, &source));
    CHECK(dnnl_memory_get_memory_desc(to.value, &target));
    PrimitiveDescriptor descriptor;
    CHECK(dnnl_reorder_primitive_desc_create(&descriptor.value, source, engine, target, engine, nullptr));
    Primitive primitive;
    CHECK(dnnl_primitive_create(&primitive.value, descriptor.value));
    execute(primitive.value, {{DNNL_ARG_FROM, from.value}, {DNNL_ARG_TO, to.value}});
}

static void read(const Memory &memory, size_t bytes, const std::string &path) {
    void *data = nullptr;
    CHECK(dnnl_memory_get_data_handle(memory.value, &data));
    std::ifstream file(path, std::ios::binary);
    if (!file.read(static_cast<char *>(data), std::streamsize(bytes))) throw std::runtime_error("cannot read " + path);
}

// Orders of axes by number of dimensions (3, 4, 5).
static const dnnl_format_tag_t channels_first[] = {dnnl_abc, dnnl_abcd, dnnl_abcde};
static const dnnl_format_tag_t channels_last[] = {dnnl_acb, dnnl_acdb, dnnl_acdeb};
// Weights as the harness writes them, [Cin, Cout/groups, kernel…] or [groups, Cin/groups, Cout/groups, kernel…], seen as
// [Cout, Cin, …] or [groups, Cout, Cin, …]: two axes exchanged.
static const dnnl_format_tag_t weights_given[] = {dnnl_bac, dnnl_bacd, dnnl_bacde};
static const dnnl_format_tag_t weights_given_groups[] = {dnnl_acbd, dnnl_acbde, dnnl_acbdef};

struct Problem {
    Descriptor plain_output;
    Memory input, weights, bias, output;
    Primitive primitive;
    std::vector<dnnl_exec_arg_t> arguments;
    std::string implementation;
    double plan_ns = 0;

    Problem(const std::string &line, const std::string &mode);
    void fetch(const std::string &path) const;
};

static double now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * double(t.tv_sec) + double(t.tv_nsec);
}

Problem::Problem(const std::string &line, const std::string &mode) {
    if (text(line, "dtype") != "f32") throw Declined("only f32 is asked of this library");
    if (text(line, "activation") != "identity") throw Declined("activations are not asked of this library");
    const long groups = number(line, "groups"), cin = number(line, "in_channels"), cout = number(line, "out_channels");
    const Dims strides = list(line, "stride"), begin = list(line, "padding_begin"), out = list(line, "output");
    const Dims in = list(line, "input"), kernel = list(line, "kernel"), out_pad = list(line, "output_padding");
    Dims end = list(line, "padding_end"), dilation = list(line, "dilation");
    const size_t rank = in.size();
    for (size_t a = 0; a < rank; ++a) {
        end[a] -= out_pad[a]; // the library has one number for both
        dilation[a] -= 1;     // dense is 0 there
    }
    Dims source{number(line, "batch"), cin}, target{number(line, "batch"), cout}, weight;
    if (groups > 1) weight = {groups, cout / groups, cin / groups};
    else weight = {cout, cin};
    source.insert(source.end(), in.begin(), in.end());
    target.insert(target.end(), out.begin(), out.end());
    weight.insert(weight.end(), kernel.begin(), kernel.end());

    // The tensors as they lie in the files, whose names stand last in the request.
    const std::string files = line.substr(line.find("\"files\":"));
    Descriptor plain_input, plain_weights, bias_descriptor;
    describe(plain_input, source, channels_first[rank - 1]);
    describe(plain_output, target, channels_first[rank - 1]);
    describe(plain_weights, weight, groups > 1 ? weights_given_groups[rank - 1] : weights_given[rank - 1]);
    Memory file_input, file_weights;
    allocate(file_input, plain_input.value);
    allocate(file_weights, plain_weights.value);
    read(file_input, dnnl_memory_desc_get_size(plain_input.value), text(files, "input"));
    read(file_weights, dnnl_memory_desc_get_size(plain_weights.value), text(files, "weights"));

    // The operator: made, and its weights packed.
    const dnnl_format_tag_t order = mode == "nchw" ? channels_first[rank - 1]
                                    : mode == "nhwc" ? channels_last[rank - 1]
                                                     : dnnl_format_tag_any;
    const double start = now_ns();
    Descriptor wanted_input, wanted_weights, wanted_output;
    describe(wanted_input, source, order);
    describe(wanted_output, target, order);
    describe(wanted_weights, weight, dnnl_format_tag_any);
    const bool has_bias = is_true(line, "bias");
    if (has_bias) describe(bias_descriptor, {cout}, dnnl_a);
    PrimitiveDescriptor descriptor;
    Attributes attributes; // the default accuracy is f32 throughout
    CHECK(dnnl_primitive_attr_create(&attributes.value));
    CHECK(dnnl_deconvolution_forward_primitive_desc_create(
        &descriptor.value, engine, dnnl_forward_inference, dnnl_deconvolution_direct, wanted_input.value,
        wanted_weights.value, bias_descriptor.value, wanted_output.value, strides.data(), dilation.data(), begin.data(),
        end.data(), attributes.value));
    const char *name = nullptr;
    CHECK(dnnl_primitive_desc_query(descriptor.value, dnnl_query_impl_info_str, 0, &name));
    implementation = name;
    CHECK(dnnl_primitive_create(&primitive.value, descriptor.value));
    const auto chosen = [&](dnnl_query_t what) { return dnnl_primitive_desc_query_md(descriptor.value, what, 0); };
    allocate(weights, chosen(dnnl_query_weights_md));
    reorder(file_weights, weights);
    plan_ns = now_ns() - start;

    allocate(input, chosen(dnnl_query_src_md));
    allocate(output, chosen(dnnl_query_dst_md));
    reorder(file_input, input);
    arguments = {{DNNL_ARG_SRC, input.value}, {DNNL_ARG_WEIGHTS, weights.value}, {DNNL_ARG_DST, output.value}};
    if (has_bias) {
        allocate(bias, bias_descriptor.value);
        read(bias, size_t(cout) * sizeof(float), text(files, "bias"));
        arguments.push_back({DNNL_ARG_BIAS, bias.value});
    }
}

void Problem::fetch(const std::string &path) const {
    Memory plain;
    allocate(plain, plain_output.value);
    reorder(output, plain);
    void *data = nullptr;
    CHECK(dnnl_memory_get_data_handle(plain.value, &data));
    std::ofstream file(path, std::ios::binary);
    file.write(static_cast<const char *>(data), std::streamsize(dnnl_memory_desc_get_size(plain_output.value)));
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// ---- the loop -------------------------------------------------------------------------------------------------------

static double seconds(const timeval &t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); }

static std::string run(const Problem &problem, long k) {
    rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    const double start = now_ns();
    for (long i = 0; i < k; ++i) execute(problem.primitive.value, problem.arguments);
    const double wall = now_ns() - start;
    getrusage(RUSAGE_SELF, &after);
    const double cpu = seconds(after.ru_utime) + seconds(after.ru_stime) - seconds(before.ru_utime) - seconds(before.ru_stime);
    char reply[256];
    snprintf(reply, sizeof reply,
             "{\"reply\":\"ran\",\"runs\":%ld,\"wall_ns\":%.0f,\"cpu_ns\":%.0f,\"switches\":%ld,\"faults\":%ld}", k, wall,
             1e9 * cpu, after.ru_nivcsw - before.ru_nivcsw, after.ru_minflt - before.ru_minflt);
    return reply;
}

// Leaves as many processors as threads were asked for. Not every runtime below oneDNN (OpenMP, TBB under SYCL) reads the same
// variables, but all of them count the processors that they may use.
static void keep_processors(long threads) {
    cpu_set_t all, some;
    CPU_ZERO(&some);
    if (sched_getaffinity(0, sizeof all, &all) != 0) return;
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && CPU_COUNT(&some) < threads; --cpu) {
        if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &some);
    }
    sched_setaffinity(0, sizeof some, &some);
}

int main(int count, char **words) {
    const std::string mode = count > 1 ? words[1] : "any";
    // Whatever the library prints goes to standard error.
    FILE *replies = fdopen(dup(STDOUT_FILENO), "w");
    dup2(STDERR_FILENO, STDOUT_FILENO);
    Problem *problem = nullptr;
    for (std::string line; std::getline(std::cin, line);) {
        std::string reply;
        try {
            const std::string request = text(line, "do");
            if (request == "hello") {
                keep_processors(number(line, "threads"));
                CHECK(dnnl_engine_create(&engine, dnnl_cpu, 0));
                CHECK(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
                const dnnl_version_t *v = dnnl_version();
                reply = "{\"reply\":\"hello\",\"protocol\":1,\"name\":\"oneDNN\",\"version\":\"" + std::to_string(v->major) + "." +
                        std::to_string(v->minor) + "." + std::to_string(v->patch) +
                        "\",\"threads\":" + std::to_string(number(line, "threads")) + "}";
            } else if (request == "prepare") {
                delete problem;
                problem = nullptr;
                problem = new Problem(line, mode);
                reply = "{\"reply\":\"prepared\",\"plan_ns\":" + std::to_string(problem->plan_ns) +
                        ",\"implementation\":" + quoted(problem->implementation) + "}";
            } else if (request == "release") {
                delete problem;
                problem = nullptr;
                reply = "{\"reply\":\"released\"}";
            } else if (request == "bye") {
                break;
            } else if (!problem) {
                throw std::runtime_error("nothing is prepared for " + request);
            } else if (request == "run") {
                reply = run(*problem, number(line, "k"));
            } else if (request == "fetch") {
                problem->fetch(text(line, "output"));
                reply = "{\"reply\":\"fetched\"}";
            } else {
                throw std::runtime_error("unknown request " + request);
            }
        } catch (const Declined &why) {
            reply = "{\"reply\":\"declined\",\"declined\":" + quoted(why.what()) + "}";
        } catch (const std::exception &why) {
            reply = "{\"reply\":\"failed\",\"failed\":" + quoted(why.what()) + "}";
        }
        fprintf(replies, "%s\n", reply.c_str());
        fflush(replies);
    }
    delete problem;
    return 0;
}
