# What the plans of the comparisons have in common; to be read into a script that sets `data`, a folder
# with a folder a corpus.

# The entity types of a corpus, as an array of TOML without its brackets.
labels() {
    cut -f2 "$data/$1/train.tsv" | sed -n 's/^B-\(.*\)\r*$/"\1"/p' | sort -u | paste -sd, -
}

# begin_plan CORPUS METHOD: a plan of one institution and one round, but for its training and privacy.
begin_plan() {
    cat <<PLAN
name = "$1"
base = "base@1"
labels = [$(labels "$1")]
method = "$2"
rounds = 1
seed = ${SEED:-1}
[cohort]
institutions = ["here"]
quorum = 1
PLAN
}

# The first number of this name in JSON: number NAME.
number() {
    tr -d ' \n' | grep -o "\"$1\":[0-9.]*" | head -1 | cut -d: -f2
}
