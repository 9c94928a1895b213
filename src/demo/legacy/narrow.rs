//! What Tigase 8.4.0 does not take, and ends the stream for.

use super::super::node::Node;

/// Whether it ends the stream at this element.
pub fn refuses(node: &Node) -> bool {
    // Its reader knows decimal references alone; it need not be one of ours to be refused.
    node.raw.contains("&#x") || elements(node) > ELEMENTS || too_large(node)
}

fn elements(node: &Node) -> usize {
    1 + node.children.iter().map(elements).sum::<usize>()
}

fn too_large(node: &Node) -> bool {
    node.attrs.len() > ATTRIBUTES
        || node.attrs.iter().any(|(_, value)| value.len() > VALUE)
        || node.children.iter().any(too_large)
}

const ATTRIBUTES: usize = 54;
const ELEMENTS: usize = 1000;
const VALUE: usize = 10 * 1024;
