"""Results of cells handed to a tracker of experiments: MLflow, TensorBoard, Trackio or Weights & Biases."""
