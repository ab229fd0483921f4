// Index a labelled collection, then label each session. A session is a folder in params.tiffs.
// This example was not run yet: Nextflow is not available where the other examples are tested.
//
// The store and the labelled copies are not outputs of a process: Twinscope continues a stopped run by itself, and a
// reference is read at its original path, not in the work folder.

params.collection = 'collection'
params.tiffs = 'tiffs'
params.out = 'labelled'
params.store = 'lab.store'

process INDEX {
    input:
    val collection
    val store

    output:
    path 'references.jsonl'

    script:
    """
    twinscope index '${collection}' --store '${store}' --workers ${task.cpus} --json --quiet --fail-on never \
        > references.jsonl
    """
}

process LABEL {
    tag "${session.name}"
    publishDir "${file(params.out)}/decisions", mode: 'copy'

    input:
    val session
    val store
    path references

    output:
    path "${session.name}.jsonl"

    script:
    """
    twinscope label '${session}' --at '${store}' --out '${file(params.out)}/${session.name}' \
        --workers ${task.cpus} --json --quiet --fail-on never > '${session.name}.jsonl'
    """
}

workflow {
    store = file(params.store).toAbsolutePath()
    sessions = Channel.fromPath("${params.tiffs}/*", type: 'dir')
    references = INDEX(file(params.collection).toAbsolutePath(), store)
    LABEL(sessions, store, references.first())
}
