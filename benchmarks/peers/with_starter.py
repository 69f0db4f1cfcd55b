"""The starter-code way: a TF1 session, batches copied in Python and fed, and a summary with
histograms written every step. LeNet-5 only."""
import tempfile

import numpy as np
import tensorflow as tf

from peers import CHUNK, RATE

v1 = tf.compat.v1


def build(case):
    graph = tf.Graph()
    images, labels = case.images()
    images, one_hot = images.astype("float32") / 255, np.eye(10, dtype="float32")[labels]
    with graph.as_default():
        x, y, keep = (v1.placeholder(tf.float32, shape)
                      for shape in ([None, *case.shape], [None, 10], []))
        v = [v1.get_variable(f"w{i}", initializer=w) for i, w in enumerate(case.weights())]
        h = x

        def act(h):
            return tf.nn.leaky_relu(h, 0.1) if case.norm else tf.nn.relu(h)
        for i in (0, 2):
            h = tf.nn.conv2d(h, v[i], 1, "SAME")
            if case.norm:
                mean, variance = tf.nn.moments(h, [0, 1, 2])
                h = tf.nn.batch_normalization(h, mean, variance, None, None, 1e-3)
            h = act(h + v[i + 1])
            v1.summary.histogram(f"activation{i}", h)
            h = tf.nn.max_pool2d(h, 2, 2, "SAME")
        h = act(tf.matmul(tf.reshape(h, [-1, v[4].shape[0]]), v[4]) + v[5])
        logits = tf.matmul(tf.nn.dropout(h, rate=1 - keep), v[6]) + v[7]
        mean_loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, logits))
        update = v1.train.AdamOptimizer(RATE).minimize(mean_loss)
        v1.summary.scalar("loss", mean_loss)
        for variable in v:
            v1.summary.histogram(variable.op.name, variable)
        merged = v1.summary.merge_all()
        session = v1.Session()
        session.run(v1.global_variables_initializer())
        folder = tempfile.TemporaryDirectory()
        writer = v1.summary.FileWriter(folder.name, graph)

    def loss():
        first = slice(case.batch)
        return float(session.run(mean_loss, {x: images[first], y: one_hot[first], keep: 1.0}))

    def train(steps):
        for i in range(steps):
            batch, targets = np.zeros((case.batch, *case.shape)), np.zeros((case.batch, 10))
            for j, k in enumerate(np.random.permutation(case.count)[:case.batch]):
                batch[j], targets[j] = images[k], one_hot[k]
            summary, _ = session.run([merged, update], {x: batch, y: targets, keep: 0.5})
            writer.add_summary(summary, i)
            writer.flush()
    train.summaries = folder  # deleted with it
    return loss, train, lambda: np.concatenate([session.run(
        logits, {x: images[i:i + CHUNK], keep: 1.0}) for i in range(0, case.count, CHUNK)])
