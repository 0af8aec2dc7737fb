from . import onnx_form as onnx_form
