#!/bin/sh
# Instructions of six kernels, by valgrind's callgrind: the same on a busy machine as on a quiet one.
#
#   tests/compare/instructions.sh [--record]
#
# Prints the instructions for one number or word beside those that tests/compare/instructions.tsv has, and ends with
# status 1 where one takes over a twentieth more. With --record it writes that file. valgrind shows programs AVX2 and
# no AVX-512, so that machines with both give the same figures.
set -eu
cd "$(dirname "$0")/../.."
file=tests/compare/instructions.tsv
command -v valgrind > /dev/null || {
    echo "valgrind is missing: install Debian's package" >&2
    exit 2
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cargo test --workspace --lib --no-run 2>&1 | sed -n 's/.*(\(.*\))$/\1/p' > "$scratch/programs"

# valgrind counts each byte that `rep movsb` copies as an instruction.
export GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000

# Instructions of a test that runs its kernel so many times: count TEST PROGRAM TIMES.
count() {
    FEDNER_KERNEL_TIMES=$3 RAYON_NUM_THREADS=1 valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$2" --ignored --exact "$1" --test-threads 1 2>&1 > /dev/null | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# measure NAME CRATE TEST: the test's name ends with how many numbers or words it takes.
measure() {
    program=$(grep "/$2-[0-9a-f]*$" "$scratch/programs")
    once=$(count "$3" "$program" 1)
    more=$(count "$3" "$program" 5)
    echo "$1 $once $more ${3##*_}" | awk '{ printf "%s\t%.2f\n", $1, ($3 - $2) / 4 / $4 }'
}

{
    measure unpack-and-add fedner_shared update::tests::unpack_and_add_of_65536
    measure noise fedner_privacy noise::tests::noise_of_16384
    measure gelu fedner_model kernels::instructions::gelu_of_98304
    measure softmax fedner_model kernels::instructions::softmax_of_49152
    measure layer-norm fedner_model kernels::instructions::layer_norm_of_98304
    measure tokenising fedner_model kernels::instructions::tokenising_of_1000
} > "$scratch/found"
if [ "${1-}" = --record ]; then
    cp "$scratch/found" "$file"
fi
echo "| kernel | instructions | recorded |"
echo "|---|---|---|"
awk '
    NR == FNR { recorded[$1] = $2; next }
    { print "| " $1 " | " $2 " | " recorded[$1] " |"; more = more || $2 > 1.05 * recorded[$1]; lines++ }
    END { exit more || lines != 6 }' "$file" "$scratch/found"
