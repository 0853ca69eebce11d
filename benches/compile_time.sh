#!/usr/bin/env bash
# How long a user waits after an edit of a trace: binaries with 1, 10 and 100 traces, in a project of their own with this one as a dependency.
#
# usage: benches/compile_time.sh [--check]     --check fails when a figure is more than twice its bar, or a trace takes the compiler much longer
#                                              than a function of plain Rust does
#
# The dependencies are built once first (some minutes).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
project=${COMPILE_TIME_DIR:-$(mktemp -d)}
trap '[ -n "${COMPILE_TIME_DIR:-}" ] || rm -rf "$project"' EXIT
mkdir -p "$project/src/bin"
cp "$root/Cargo.lock" "$project/"
cat > "$project/Cargo.toml" <<TOML
[package]
name = "user"
edition = "2024"
[dependencies]
nnsight = { path = "$root" }
candle-core = "0.11.1"
[profile.dev]
debug = "line-tables-only"
[profile.dev.package."*"]
opt-level = 3
debug = false
[profile.dev.build-override]
opt-level = 3
TOML

program() { # traces -> a program with that many, each in a function of its own
    echo 'use nnsight::prelude::*;'
    for ((i = 0; i < $1; i++)); do
        cat <<RUST
fn trace_$i(model: &Llama<SmolLm2_135M>, prompt: &str) -> nnsight::Result<f32> {
    let (hidden, logits) = trace!(model, prompt, {
        let h = model.layers[$((i % 30))].output;
        model.layers[$((i % 30))].mlp.output *= 0.5;
        model.layers[29].output.at(Seq, -1) += h.at(Seq, -1) * $i.0;
        (h.mean(Seq), model.lm_head(model.norm(model.layers[-1].output)).at(Seq, -1).softmax(Vocab))
    })?;
    Ok(hidden.sum_all()?.to_scalar::<f32>()? + logits.sum_all()?.to_scalar::<f32>()?)
}
RUST
    done
    echo 'fn main() -> nnsight::Result<()> {'
    echo '    let model = Llama::<SmolLm2_135M>::load(Source::default())?;'
    for ((i = 0; i < $1; i++)); do echo "    println!(\"{}\", trace_$i(&model, \"x\")?);"; done
    echo '    Ok(())'; echo '}'
}
plain() { # functions -> a program with that many, each about as long as a trace, on candle's tensors only: a measure of the machine
    echo 'use candle_core::{D, Device, Result, Tensor};'
    for ((i = 0; i < $1; i++)); do
        cat <<RUST
fn plain_$i(model: &[Tensor], prompt: &Tensor) -> Result<f32> {
    let (hidden, logits) = {
        let h = (&model[$((i % 30))] + prompt)?;
        let mlp = h.affine(0.5, 0.0)?.broadcast_add(&model[29])?;
        let edited = (mlp.narrow(D::Minus1, 0, 1)? + (h.narrow(D::Minus1, 0, 1)? * $i.0)?)?;
        let powers = edited.broadcast_matmul(&model[$((i % 7))])?.exp()?;
        (h.mean(D::Minus1)?, powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?)
    };
    Ok(hidden.sum_all()?.to_scalar::<f32>()? + logits.sum_all()?.to_scalar::<f32>()?)
}
RUST
    done
    echo 'fn main() -> Result<()> {'
    echo '    let x = Tensor::new(&[[1f32]], &Device::Cpu)?;'
    echo '    let model = vec![x.clone(); 30];'
    for ((i = 0; i < $1; i++)); do echo "    println!(\"{}\", plain_$i(&model, &x)?);"; done
    echo '    Ok(())'; echo '}'
}
for count in 1 10 100; do program $count > "$project/src/bin/traces_$count.rs"; done
for count in 1 100; do plain $count > "$project/src/bin/plain_$count.rs"; done
echo 'use candle_core::*; fn main() -> Result<()> { println!("{}", (Tensor::ones(3, DType::F32, &Device::Cpu)? + 1.0)?); Ok(()) }' > "$project/src/bin/bare.rs"

cd "$project"
cargo build --quiet --bins
cargo check --quiet --bins

seconds() { # file, command -> the median of five, each after an edit of the file
    local file=$1; shift
    for run in 1 2 3 4 5; do
        # A number in every trace; in the bare program, in its only line.
        sed -i "s/0\.5[0-9]*;/0.5$RANDOM;/; s/affine(0\.5[0-9]*/affine(0.5$RANDOM/; s/ + 1\.[0-9]*/ + 1.$RANDOM/" "$file"
        local start=$(date +%s.%N)
        "$@" > /dev/null 2>&1
        awk "BEGIN { print $(date +%s.%N) - $start }"
    done | sort -n | sed -n 3p
}

# As `seconds`, of the processor and not of the clock, so that what else runs here counts little; of two files in turn, so that it counts in both.
ratio() { # program, program, command -> how much longer each trace of the first takes than each function of the second
    local first=$1 second=$2 round name; shift 2
    for round in 1 2 3 4 5 6 7; do
        for name in "$first"_1 "$first"_100 "$second"_1 "$second"_100; do
            sed -i "s/0\.5[0-9]*;/0.5$RANDOM;/; s/affine(0\.5[0-9]*/affine(0.5$RANDOM/" "src/bin/$name.rs"
            echo "$name $( { TIMEFORMAT=%U; time "$@" "$name" > /dev/null 2>&1; } 2>&1 )"
        done
    done | sort -k1,1 -k2,2n | awk -v first="$first" -v second="$second" '
        { if (++seen[$1] == 4) median[$1] = $2 }
        END { print (median[first "_100"] - median[first "_1"]) / (median[second "_100"] - median[second "_1"]) }'
}

declare -A figure
printf '%-28s %8s %8s\n' 'seconds after an edit' build check
for name in bare traces_1 traces_10 traces_100; do
    figure[build_$name]=$(seconds "src/bin/$name.rs" cargo build --quiet --bin "$name")
    figure[check_$name]=$(seconds "src/bin/$name.rs" cargo check --quiet --bin "$name")
    printf '%-28s %8.2f %8.2f\n' "$name" "${figure[build_$name]}" "${figure[check_$name]}"
done
per_trace=$(awk "BEGIN { print (${figure[check_traces_100]} - ${figure[check_traces_1]}) * 1000 / 99 }")
printf '%-28s %17.1f ms\n' 'check, for each trace' "$per_trace"
per_plain=$(ratio traces plain cargo check --quiet --bin)
printf '%-28s %17.2f times a plain function\n' 'check, for each trace' "$per_plain"

if [ "${1:-}" = --check ]; then
    fail=0
    over() { if awk "BEGIN { exit !($2 > 2 * $3) }"; then echo "$1: $2, more than twice $3"; fail=1; fi; }
    over 'build with one trace (s)' "${figure[build_traces_1]}" 2
    over 'check with one trace (s)' "${figure[check_traces_1]}" 1
    over 'check for each trace (ms)' "$per_trace" 30
    # 1.3 is usual. A trace that takes half as long again fails whatever the machine.
    if awk "BEGIN { exit !($per_plain > 1.7) }"; then echo "check for each trace: $per_plain times a plain function, more than 1.7"; fail=1; fi
    exit $fail
fi
